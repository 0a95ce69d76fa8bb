//! What the two sides tell each other at first ("VFIO_USER_VERSION").

use serde::{Deserialize, Serialize};
use zerocopy::native_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

/// What the sender can do. What is absent has the default of the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Most descriptors that the sender takes with one message; 1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u64>,
    /// Most bytes that one message may read or write; 1 MiB where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u64>,
    /// Most ranges of memory that can be mapped at a time; 65,535 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u64>,
    /// Page sizes for such ranges, each a bit; 4 KiB where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// Commands of the server on a socket of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin_socket: Option<TwinSocket>,
    /// Several writes in one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
    /// Migration, as QEMU proposes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
}

/// See [`Capabilities::twin_socket`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinSocket {
    /// Whether the sender can.
    #[serde(default)]
    pub supported: bool,
    /// Which of the descriptors with the reply is the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_index: Option<u64>,
}

/// See [`Capabilities::migration`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Page size of dirty bitmaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgsize: Option<u64>,
    /// Most bytes of a dirty bitmap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitmap_size: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct VersionData {
    #[serde(default)]
    capabilities: Capabilities,
}

/// Why a version message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MalformedVersion {
    /// It ends before the version does.
    #[error("it has {0} bytes, and a version has 4")]
    Short(usize),
    /// The text does not end with a zero byte.
    #[error("its capabilities do not end with a zero byte")]
    Unterminated,
    /// The text is no JSON, or not of this kind.
    #[error("its capabilities cannot be read")]
    Capabilities(#[source] serde_json::Error),
}

/// Reads the body of a version message: major version, minor version, capabilities (none where it tells of none).
///
/// # Errors
/// Where it is malformed.
pub fn read_version(body: &[u8]) -> Result<(u16, u16, Option<Capabilities>), MalformedVersion> {
    let short = |_| MalformedVersion::Short(body.len());
    let (major, rest) = U16::read_from_prefix(body).map_err(short)?;
    let (minor, text) = U16::read_from_prefix(rest).map_err(|_| MalformedVersion::Short(body.len()))?;
    if text.is_empty() {
        return Ok((major.get(), minor.get(), None));
    }
    let text = text.strip_suffix(&[0]).ok_or(MalformedVersion::Unterminated)?;
    let data: VersionData = serde_json::from_slice(text).map_err(MalformedVersion::Capabilities)?;
    Ok((major.get(), minor.get(), Some(data.capabilities)))
}

/// The body of a version message.
#[must_use]
pub fn write_version(major: u16, minor: u16, capabilities: &Capabilities) -> Vec<u8> {
    let mut body = Vec::from(U16::new(major).as_bytes());
    body.extend_from_slice(U16::new(minor).as_bytes());
    let text = serde_json::to_vec(&VersionData { capabilities: capabilities.clone() });
    body.extend(text.unwrap_or_else(|_| b"{}".to_vec()));
    body.push(0);
    body
}
