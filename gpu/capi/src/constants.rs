//! Numbers of the header.

use homi_abi::{extents, session};

use crate::Constant;

/// Of the functions and structures as they are now; changes when programs have to be compiled again.
pub(crate) const API_VERSION: u32 = 2;
/// In the flags of an opening: what queues cannot serve may be read by pread(2).
pub(crate) const ALLOW_PREAD: u32 = 1 << 0;
/// In a description's flags: queues serve the file.
pub(crate) const BY_QUEUES: u32 = 1 << 0;
/// In a description's flags: the generation is known.
pub(crate) const HAS_GENERATION: u32 = 1 << 1;

/// All numbers of the header.
pub const CONSTANTS: [Constant; 10] = [
    Constant {
        name: "HOMIFS_API_VERSION",
        value: API_VERSION,
        doc: "The version of this header; compare it with homifs_api_version().",
    },
    Constant {
        name: "HOMIFS_ALLOW_PREAD",
        value: ALLOW_PREAD,
        doc: "In flags of homifs_session_open: what queues cannot serve is read by pread(2), and homifs_why tells why.",
    },
    Constant {
        name: "HOMIFS_FILE_BY_QUEUES",
        value: BY_QUEUES,
        doc: "In homifs_description.flags: queues serve the file.",
    },
    Constant {
        name: "HOMIFS_FILE_HAS_GENERATION",
        value: HAS_GENERATION,
        doc: "In homifs_description.flags: the generation is known.",
    },
    Constant {
        name: "HOMIFS_EXTENT_UNWRITTEN",
        value: extents::UNWRITTEN,
        doc: "In homifs_extent.flags: allocated, never written; reads as zeros, the media holds old bytes.",
    },
    Constant {
        name: "HOMIFS_EXTENT_INLINE",
        value: extents::INLINE,
        doc: "In homifs_extent.flags: kept within metadata; read it through the file.",
    },
    Constant {
        name: "HOMIFS_EXTENT_SHARED",
        value: extents::SHARED,
        doc: "In homifs_extent.flags: other files share these blocks; never write them.",
    },
    Constant {
        name: "HOMIFS_EXTENT_ENCODED",
        value: extents::ENCODED,
        doc: "In homifs_extent.flags: the media's bytes are not the file's; read it through the file.",
    },
    Constant {
        name: "HOMIFS_BUFFER_HOST",
        value: session::BUFFER_HOST,
        doc: "In homifs_buffer_memory.kind: memory of the host.",
    },
    Constant {
        name: "HOMIFS_BUFFER_DMABUF",
        value: session::BUFFER_DMABUF,
        doc: "In homifs_buffer_memory.kind: memory behind a dma-buf, which the daemon's processor writes.",
    },
];

functions! {
    /// HOMIFS_API_VERSION of the library that is running.
    fn homifs_api_version() -> u32 {
        Ok(API_VERSION)
    }
}
