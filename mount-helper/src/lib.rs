//! What mount(8) runs for `mount -t homifs` and for lines of `/etc/fstab`, and umount(8) for our mounts (both manuals,
//! "External helpers").
//!
//! The helper checks what it was told, joins another mount namespace where asked, and runs `homifs mount`, which
//! returns when the mount answers. On success it prints nothing.
#![forbid(unsafe_code)]

mod arguments;
mod namespace;
mod program;
mod unmount;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::arguments::Invocation;

/// Exit codes of mount(8), section "Exit status".
mod exit {
    /// Incorrect invocation or permissions.
    pub(crate) const USAGE: u8 = 1;
    /// System error.
    pub(crate) const SYSTEM: u8 = 2;
}

/// Why a helper could not do its part. What `homifs mount` itself has to say comes from there.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Option(#[from] homifs_options::OptionError),
    #[error("cannot join the mount namespace {path}: {source}")]
    Namespace { path: String, source: std::io::Error },
    #[error(
        "the program homifs was not found beside {beside} nor in /usr/local/bin, /usr/bin or /bin: install it"
    )]
    NoProgram { beside: String },
    #[error("cannot run {program}: {source}")]
    Run { program: String, source: std::io::Error },
}

impl HelperError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Option(_) => exit::USAGE,
            Self::Namespace { .. } | Self::NoProgram { .. } | Self::Run { .. } => exit::SYSTEM,
        }
    }
}

/// Runs a helper with the arguments that mount(8) gave, the program's own name first.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().and_then(|path| {
        let name = std::path::Path::new(&path).file_name()?;
        Some(name.to_string_lossy().into_owned())
    });
    let name = name.unwrap_or_else(|| "mount.homifs".to_owned());
    let result = if name.starts_with("umount.") {
        unmount::carry_out(arguments)
    } else {
        arguments::parse(arguments).and_then(|invocation| carry_out(&invocation))
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn carry_out(invocation: &Invocation) -> Result<u8, HelperError> {
    if invocation.lists.iter().any(|list| homifs_options::asks_for_remount(list)) {
        let program = program::find()?;
        if let Some(namespace) = &invocation.namespace {
            namespace::join(namespace)?;
        }
        return if invocation.fake { Ok(0) } else { program::remount(&program, invocation) };
    }
    let options = invocation.options()?;
    // The program is looked for before the namespace changes, where it may be another or none.
    let program = program::find()?;
    if let Some(namespace) = &invocation.namespace {
        namespace::join(namespace)?;
    }
    if invocation.fake {
        return Ok(0);
    }
    program::mount(&program, invocation, &options)
}
