//! Writes the C header.

use std::fmt::Write;

use crate::constants::{self, CONSTANTS};
use crate::{Function, Record, error, file, memory, read, session, snapshot};

const BEGINNING: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `cargo run -p homifs-c --example homifs_header`; do not edit. */
#ifndef HOMIFS_H
#define HOMIFS_H

#include <stdint.h>

/*
 * libhomifs: reading files of a homifs mount by NVMe queues, from C. docs/CLIENTS.md shows how.
 *
 * - What a function makes is the caller's, until it is given to the function that ends it, once.
 * - Functions that can fail return 0 or a count, or an errno with a minus sign; homifs_last_error() then has the NVMe
 *   status and a sentence. A null pointer where there must be none is EINVAL.
 * - All offsets and lengths are bytes. Targets may be any memory of the process that can be written.
 * - Every function may be called by any thread; a thing must not be ended while another thread uses it.
 * - A session is this process's: after fork(2) only the parent may use it.
 */

#ifdef __cplusplus
extern \"C\" {
#endif

typedef struct homifs_session homifs_session;
typedef struct homifs_file homifs_file;
typedef struct homifs_buffer homifs_buffer;
typedef struct homifs_queues homifs_queues;
typedef struct homifs_snapshot homifs_snapshot;

";

/// The text of `include/homifs.h`.
#[must_use]
pub fn header() -> String {
    let mut text = String::from(BEGINNING);
    for constant in CONSTANTS {
        let _ = writeln!(text, "/* {} */\n#define {} {}u", constant.doc, constant.name, constant.value);
    }
    for record in records() {
        write_record(&mut text, &record);
    }
    for function in functions() {
        write_function(&mut text, &function);
    }
    text.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    text
}

/// All structures that callers see into, in the order of the header.
#[must_use]
pub fn records() -> Vec<Record> {
    vec![
        error::Error::record(),
        session::Limits::record(),
        file::Description::record(),
        file::Extent::record(),
        file::ExtentMap::record(),
        read::Range::record(),
        snapshot::SnapshotMemory::record(),
        snapshot::SnapshotFile::record(),
        snapshot::SnapshotRange::record(),
        memory::BufferMemory::record(),
        memory::QueueMemory::record(),
    ]
}

/// All functions, in the order of the header.
#[must_use]
pub fn functions() -> Vec<Function> {
    let parts = [
        constants::functions,
        error::functions,
        session::functions,
        file::functions,
        read::functions,
        snapshot::functions,
        memory::functions,
    ];
    parts.iter().flat_map(|part| part()).collect()
}

fn write_record(text: &mut String, record: &Record) {
    let _ = writeln!(text, "\n/*{} */\nstruct {} {{", record.doc.join("\n *"), record.name);
    for member in &record.members {
        let doc = member.doc.join("\n     *");
        let _ = writeln!(text, "    /*{doc} */\n    {};", declared(&member.kind, member.name));
    }
    text.push_str("};\n");
}

fn write_function(text: &mut String, function: &Function) {
    let parameters: Vec<String> =
        function.parameters.iter().map(|(kind, name)| declared(kind, name)).collect();
    let parameters = if parameters.is_empty() { "void".into() } else { parameters.join(", ") };
    let call = format!("{}({parameters})", function.name);
    let _ = writeln!(text, "\n/*{} */\n{};", function.doc.join("\n *"), declared(&function.returns, &call));
}

/// A declaration of something of this type.
fn declared(kind: &str, name: &str) -> String {
    if kind.ends_with('*') { format!("{kind}{name}") } else { format!("{kind} {name}") }
}
