//! Writes the C header from the structures.

use std::fmt::Write;

use crate::control;
use crate::extents::{self, Entry, Header};
use crate::{Field, Structure};

/// The text of `include/homi_extents.h`.
#[must_use]
pub fn extents_header() -> String {
    let mut text = String::from(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /* Made by `cargo run -p homi-abi --example c_header`; do not edit. */\n\
         #ifndef HOMI_EXTENTS_H\n#define HOMI_EXTENTS_H\n\n\
         #include <stddef.h>\n#include <stdint.h>\n\n\
         /*\n * The extent map of a file, as the extended attribute \"homi.extents\" gives it: version 1.\n\
         \x20* A header, then header.entries entries, sorted by logical, without overlap; what no entry covers\n\
         \x20* is a hole. All numbers are little-endian, all offsets and lengths are bytes.\n */\n\n",
    );
    let mut constant = |name: &str, value: u64, doc: &str| {
        let _ = writeln!(text, "/* {doc} */\n#define {name} {value}u");
    };
    constant("HOMI_EXTENTS_VERSION", extents::VERSION.into(), "In header.version.");
    constant(
        "HOMI_EXTENTS_MORE",
        extents::MORE.into(),
        "In header.flags: \"homi.extents@N\" gives the entries from place N on.",
    );
    constant(
        "HOMI_EXTENTS_SPECIAL",
        extents::SPECIAL.into(),
        "In header.flags: some entry of the whole map has flags other than HOMI_EXTENT_SHARED.",
    );
    constant(
        "HOMI_EXTENT_UNWRITTEN",
        extents::UNWRITTEN.into(),
        "In extent.flags: allocated, never written; reads as zeros, the media holds old bytes.",
    );
    constant(
        "HOMI_EXTENT_INLINE",
        extents::INLINE.into(),
        "In extent.flags: kept within metadata; read it through the file.",
    );
    constant(
        "HOMI_EXTENT_SHARED",
        extents::SHARED.into(),
        "In extent.flags: other files share these blocks; never write them.",
    );
    constant(
        "HOMI_EXTENT_ENCODED",
        extents::ENCODED.into(),
        "In extent.flags: the media's bytes are not the file's; read it through the file.",
    );
    for structure in [Header::STRUCTURE, Entry::STRUCTURE] {
        write_structure(&mut text, &structure);
    }
    text.push_str("\n#endif\n");
    text
}

/// The text of `include/homi_control.h`.
#[must_use]
pub fn control_header() -> String {
    format!(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /* Made by `cargo run -p homi-abi --example c_header`; do not edit. */\n\
         #ifndef HOMI_CONTROL_H\n#define HOMI_CONTROL_H\n\n\
         #include <sys/ioctl.h>\n\n\
         /*\n * A control request on an open .homi/control, at most N bytes with its closing NUL, N at most {max}.\n\
         \x20* The buffer of N bytes holds one JSON object and gets one, filled up with NULs.\n */\n\
         #define HOMI_IOC_CONTROL(N) _IOC(_IOC_READ | _IOC_WRITE, '{letter}', {number}, N)\n\n\
         #endif\n",
        max = control::REQUEST_MAX,
        letter = char::from(control::IOCTL_LETTER),
        number = control::IOCTL_NUMBER,
    )
}

fn write_structure(text: &mut String, structure: &Structure) {
    let _ = writeln!(text, "\n/*{} */\nstruct {} {{", structure.doc.join("\n *"), structure.c_name);
    for field in structure.fields {
        let _ = writeln!(text, "    /*{} */\n    {};", field.doc.join("\n     *"), declaration(field));
    }
    text.push_str("};\n\n#if defined(__cplusplus) && __cplusplus >= 201103L\n#define HOMI_ASSERT static_assert\n#else\n#define HOMI_ASSERT _Static_assert\n#endif\n");
    let name = structure.c_name;
    let _ = writeln!(text, "HOMI_ASSERT(sizeof(struct {name}) == {}, \"size of {name}\");", structure.size);
    for Field { name: field, offset, .. } in structure.fields {
        let _ = writeln!(
            text,
            "HOMI_ASSERT(offsetof(struct {name}, {field}) == {offset}, \"place of {name}.{field}\");"
        );
    }
    text.push_str("#undef HOMI_ASSERT\n");
}

fn declaration(field: &Field) -> String {
    let Field { name, bits, elements, .. } = field;
    if *elements == 1 { format!("uint{bits}_t {name}") } else { format!("uint{bits}_t {name}[{elements}]") }
}
