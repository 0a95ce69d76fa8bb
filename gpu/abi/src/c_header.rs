//! Writes the C header from the structures.

mod snapshot;

use std::fmt::Write;

use crate::control;
use crate::extents::{self, Entry, Header};
use crate::session;
use crate::{Field, Structure};

pub use snapshot::snapshot_header;

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

/// The text of `include/homi_session.h`.
#[must_use]
pub fn session_header() -> String {
    let mut text = String::from(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /* Made by `cargo run -p homi-abi --example c_header`; do not edit. */\n\
         #ifndef HOMI_SESSION_H\n#define HOMI_SESSION_H\n\n\
         #include <stddef.h>\n#include <stdint.h>\n\n\
         /*\n * What a client and the daemon say on the socket, version 1: packets (SOCK_SEQPACKET) of a homi_message\n\
         \x20* and what belongs to its kind. All numbers are little-endian.\n */\n\n",
    );
    let constants = [
        ("HOMI_SESSION_VERSION", u64::from(session::VERSION), "In message.version."),
        ("HOMI_MESSAGE_MAX", session::MESSAGE_MAX as u64, "Longest message in bytes."),
        ("HOMI_HANDLE_WRITE", session::HANDLE_WRITE, "In handle.rights: for writing, too."),
        ("HOMI_KIND_HELLO", session::kind::HELLO.into(), "The first request; answered with a homi_welcome."),
        ("HOMI_KIND_QUEUES", session::kind::QUEUES.into(), "homi_queues_request; answered with homi_queues."),
        ("HOMI_KIND_BUFFER", session::kind::BUFFER.into(), "homi_buffer_request; answered with homi_buffer."),
        (
            "HOMI_KIND_RELEASE",
            session::kind::RELEASE.into(),
            "homi_buffer; answered when no command uses it.",
        ),
        ("HOMI_KIND_OPEN", session::kind::OPEN.into(), "homi_handle; answered with homi_file."),
        (
            "HOMI_KIND_CLOSE",
            session::kind::CLOSE.into(),
            "homi_close_request; answered when none is in flight.",
        ),
        (
            "HOMI_KIND_SNAPSHOT",
            session::kind::SNAPSHOT.into(),
            "homi_handle of a directory; answered with homi_snapshot_reply.",
        ),
        (
            "HOMI_KIND_IDENTIFY",
            session::kind::IDENTIFY.into(),
            "homi_identify_request; answered with homi_identify.",
        ),
        (
            "HOMI_WELCOME_SGL",
            session::WELCOME_SGL.into(),
            "In welcome.flags: SGL data block descriptors work.",
        ),
        ("HOMI_BUFFER_HOST", session::BUFFER_HOST.into(), "In buffer.kind: memory of the host."),
        (
            "HOMI_BUFFER_DMABUF",
            session::BUFFER_DMABUF.into(),
            "In buffer.kind: memory behind a dma-buf, which the daemon's processor writes.",
        ),
        (
            "HOMI_QUEUES_MEDIATED",
            session::QUEUES_MEDIATED.into(),
            "In queues.flags: the daemon checks each command.",
        ),
        ("HOMI_FILE_WRITABLE", session::FILE_WRITABLE.into(), "In file.flags: the file may be written."),
        ("HOMI_STATE_SERVING", session::STATE_SERVING.into(), "In status.state: all is well."),
        ("HOMI_STATE_ENDING", session::STATE_ENDING.into(), "In status.state: the mount is going away."),
        ("HOMI_LEASE_STATE", session::LEASE_STATE, "Bits of a lease word that say what it is."),
        ("HOMI_LEASE_FREE", session::LEASE_FREE, "No file has this slot."),
        ("HOMI_LEASE_HELD", session::LEASE_HELD, "The blocks are the file's."),
        ("HOMI_LEASE_REVOKED", session::LEASE_REVOKED, "Taken back."),
    ];
    for (name, value, doc) in constants {
        let _ = writeln!(text, "/* {doc} */\n#define {name} {value}u");
    }
    for structure in session::STRUCTURES {
        write_structure(&mut text, &structure);
    }
    text.push_str("\n#endif\n");
    text
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
