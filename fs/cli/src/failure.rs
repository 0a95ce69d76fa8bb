//! How a command ends that could not do its work: one line for a person, one number for a program.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use engine_open::OpenError;
use extents_volume::OpenVolumeError;
use homifs_core::{FsError, error_chain};
use homifs_fuse::MountError;
use homifs_options::OptionError;

/// Exit codes of mount(8), section "Exit status"; other commands use 1 for every failure.
pub(crate) mod exit {
    /// Incorrect invocation or permissions.
    pub(crate) const USAGE: u8 = 1;
    /// System error: something that the machine lacks.
    pub(crate) const SYSTEM: u8 = 2;
    /// The mount failed.
    pub(crate) const MOUNT: u8 = 32;
}

/// A failure.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) code: u8,
    /// What, why and what to do. Empty where everything was said.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A failure of something other than a mount.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// A failure of the operating system.
    pub(crate) fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::plain(format!("{what}: {}{}", reason(error), advice(error.kind())))
    }

    /// The device could not be opened.
    pub(crate) fn open(error: &OpenError) -> Self {
        let kind = match error {
            OpenError::System { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        let code = if kind == io::ErrorKind::PermissionDenied { exit::USAGE } else { exit::MOUNT };
        Self::new(code, format!("{}{}", chain(error), advice(kind)))
    }

    /// There is no volume on the device that could be opened.
    pub(crate) fn volume(spec: &str, error: &OpenVolumeError) -> Self {
        Self::new(exit::MOUNT, format!("cannot open {spec}: {}", chain(error)))
    }

    /// A controller could not be made or served.
    pub(crate) fn controller(error: &(dyn Error + 'static)) -> Self {
        Self::plain(chain(error))
    }

    /// The volume could not be mounted.
    pub(crate) fn mount(error: &MountError) -> Self {
        let code = match error {
            _ if error.is_permission() => exit::USAGE,
            MountError::NoFuse(_) | MountError::Handshake(_) => exit::SYSTEM,
            _ => exit::MOUNT,
        };
        Self::new(code, chain(error))
    }

    /// A file of a volume could not be read.
    pub(crate) fn file(path: &str, error: &FsError) -> Self {
        Self::plain(format!("{path}: {}", chain(error)))
    }

    /// Says it on stderr.
    pub(crate) fn tell(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("homifs: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<OptionError> for Failure {
    fn from(error: OptionError) -> Self {
        Self::new(exit::USAGE, error.to_string())
    }
}

/// Standard output went away, as `head` does, or the disk behind it is full.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::plain(""),
            _ => Self::io("cannot write the output", &error),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

fn chain(error: &dyn Error) -> String {
    plain_errno(&error_chain(error))
}

fn reason(error: &io::Error) -> String {
    plain_errno(&error.to_string())
}

/// The system's own words without the number that Rust adds to them.
fn plain_errno(text: &str) -> String {
    let Some(start) = text.rfind(" (os error ") else { return text.to_owned() };
    let end = text[start..].find(')').map_or(text.len(), |end| start + end + 1);
    format!("{}{}", &text[..start], &text[end..])
}

/// What to do about what the system said.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; run as root, or let this user read it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_errno_drops_the_number_and_nothing_else() {
        assert_eq!(plain_errno("No such file (os error 2)"), "No such file");
        assert_eq!(plain_errno("a: No such file (os error 2); b"), "a: No such file; b");
        assert_eq!(plain_errno("nothing (to drop)"), "nothing (to drop)");
    }
}
