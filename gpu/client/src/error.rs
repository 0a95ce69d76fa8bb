//! What can go wrong for a client.

use std::fmt;
use std::io;
use std::time::Duration;

/// The 15 bits of an NVMe completion's status (NVM Express Base Specification 2.x, section 4.2.3): code in bits 0 to 7,
/// type in bits 8 to 10, "do not retry" in bit 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NvmeStatus(pub u16);

impl NvmeStatus {
    /// The command did what it was asked for.
    pub const SUCCESS: Self = Self(0);
    /// A field of the command is not valid.
    pub const INVALID_FIELD: u16 = 0x02;
    /// The client has no namespace of this number.
    pub const INVALID_NAMESPACE: u16 = 0x0b;
    /// Nobody may write to it.
    pub const WRITE_PROTECTED: u16 = 0x20;
    /// Past the end of the file.
    pub const LBA_OUT_OF_RANGE: u16 = 0x80;
    /// The volume is full.
    pub const CAPACITY_EXCEEDED: u16 = 0x81;
    /// The file was taken back.
    pub const NAMESPACE_NOT_READY: u16 = 0x82;
    /// The media failed.
    pub const UNRECOVERED_READ_ERROR: u16 = 0x281;

    /// Type and code, without the bits about retrying.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0 & 0x7ff
    }

    /// Whether the same command cannot succeed later.
    #[must_use]
    pub fn is_final(self) -> bool {
        self.0 & 0x4000 != 0
    }

    /// The errno that says about the same.
    #[must_use]
    pub fn errno(self) -> i32 {
        use rustix::io::Errno;
        let errno = match self.code() {
            0 => return 0,
            Self::INVALID_FIELD | Self::INVALID_NAMESPACE => Errno::INVAL,
            Self::WRITE_PROTECTED => Errno::ROFS,
            Self::LBA_OUT_OF_RANGE => Errno::NXIO,
            Self::CAPACITY_EXCEEDED => Errno::NOSPC,
            Self::NAMESPACE_NOT_READY => Errno::STALE,
            _ => Errno::IO,
        };
        errno.raw_os_error()
    }
}

impl fmt::Display for NvmeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.code() {
            0 => "Success",
            Self::INVALID_FIELD => "Invalid Field in Command",
            Self::INVALID_NAMESPACE => "Invalid Namespace or Format",
            Self::WRITE_PROTECTED => "Namespace is Write Protected",
            Self::LBA_OUT_OF_RANGE => "LBA Out of Range",
            Self::CAPACITY_EXCEEDED => "Capacity Exceeded",
            Self::NAMESPACE_NOT_READY => "Namespace Not Ready",
            Self::UNRECOVERED_READ_ERROR => "Unrecovered Read Error",
            _ => "NVMe status",
        };
        let (kind, code) = (self.code() >> 8, self.code() & 0xff);
        write!(
            f,
            "{name} (type {kind}, code {code:02x}h{})",
            if self.is_final() { ", do not retry" } else { "" }
        )
    }
}

/// Why something could not be done. The text says what, why and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The file does not lie on a homifs mount that serves accelerators.
    #[error("{path} cannot be read by queues: {reason}")]
    NotServed {
        /// The file or mount point.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The daemon refused a request.
    #[error("the daemon refused: {text}")]
    Refused {
        /// Its reason as errno(3).
        errno: i32,
        /// Its reason in words.
        text: String,
    },
    /// The daemon does not keep to the protocol, or is of another version.
    #[error("the daemon's answer makes no sense: {0}")]
    Protocol(String),
    /// The system refused.
    #[error("cannot {action}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it was refused.
        source: io::Error,
    },
    /// A command failed.
    #[error("reading {length} bytes at byte {offset} failed: {status}")]
    Command {
        /// First byte in the file.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What the daemon answered.
        status: NvmeStatus,
    },
    /// A command that writes failed.
    #[error("writing {length} bytes at byte {offset} failed: {status}")]
    WriteCommand {
        /// First byte in the file of one of those that were under way.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What the daemon answered.
        status: NvmeStatus,
    },
    /// A command was not answered in time.
    #[error("no completion within {0:?}; the daemon is stuck or gone")]
    Late(Duration),
    /// The daemon closed the connection.
    #[error(
        "the daemon is gone: the mount was taken away, or it ended; open the file again once it is mounted"
    )]
    Gone,
    /// There is no accelerator to read for.
    #[error("{0}")]
    NoAccelerator(String),
    /// The accelerator's driver refused.
    #[error("the accelerator cannot {action}: {reason}")]
    Accelerator {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// The range or memory asked for does not exist.
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    /// The errno that says about the same, for interfaces that have nothing else.
    #[must_use]
    pub fn errno(&self) -> i32 {
        use rustix::io::Errno;
        match self {
            Self::NotServed { .. } => Errno::OPNOTSUPP.raw_os_error(),
            Self::Refused { errno, .. } => *errno,
            Self::Protocol(_) => Errno::PROTO.raw_os_error(),
            Self::System { source, .. } => source.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            Self::Command { status, .. } | Self::WriteCommand { status, .. } => status.errno(),
            Self::Late(_) => Errno::TIMEDOUT.raw_os_error(),
            Self::Gone => Errno::NOTCONN.raw_os_error(),
            Self::NoAccelerator(_) => Errno::NODEV.raw_os_error(),
            Self::Accelerator { .. } => Errno::IO.raw_os_error(),
            Self::Invalid(_) => Errno::INVAL.raw_os_error(),
        }
    }

    /// The status of the command that failed; success where it was no command that failed.
    #[must_use]
    pub fn status(&self) -> NvmeStatus {
        match self {
            Self::Command { status, .. } | Self::WriteCommand { status, .. } => *status,
            _ => NvmeStatus::SUCCESS,
        }
    }

    /// All of it in one sentence, with what lies behind it.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::System { action, source } => format!("cannot {action}: {source}"),
            other => other.to_string(),
        }
    }

    /// The same, for another request that it befell.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::NotServed { path, reason } => {
                Self::NotServed { path: path.clone(), reason: reason.clone() }
            }
            Self::Refused { errno, text } => Self::Refused { errno: *errno, text: text.clone() },
            Self::Protocol(text) => Self::Protocol(text.clone()),
            Self::System { action, source } => {
                let same =
                    source.raw_os_error().map_or_else(|| source.kind().into(), io::Error::from_raw_os_error);
                Self::System { action, source: same }
            }
            Self::Command { offset, length, status } => {
                Self::Command { offset: *offset, length: *length, status: *status }
            }
            Self::WriteCommand { offset, length, status } => {
                Self::WriteCommand { offset: *offset, length: *length, status: *status }
            }
            Self::Late(patience) => Self::Late(*patience),
            Self::Gone => Self::Gone,
            Self::NoAccelerator(text) => Self::NoAccelerator(text.clone()),
            Self::Accelerator { action, reason } => Self::Accelerator { action, reason: reason.clone() },
            Self::Invalid(text) => Self::Invalid(text.clone()),
        }
    }

    pub(crate) fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
