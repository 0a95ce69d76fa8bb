//! What umount(8) runs for mounts of type `fuse.homifs`: `umount.fuse.homifs DIRECTORY [-flnrv] [-N namespace] [-t type]`.
//!
//! umount(2) returns when the mount is gone. `homifs umount` returns when the process that served it is, and the device is
//! free: only then may a program check, mount or write it.

use std::ffi::OsString;
use std::process::Command;

use crate::{HelperError, exit, namespace, program};

const USAGE: &str = "usage: umount.homifs DIRECTORY [-flnrv] [-N namespace] [-t fuse.homifs]";

/// Unmounts; the exit code of `homifs umount`.
pub(crate) fn carry_out(arguments: impl Iterator<Item = OsString>) -> Result<u8, HelperError> {
    let usage = |problem: String| HelperError::Usage(format!("{problem}; {USAGE}"));
    let (mut directory, mut lazy, mut target) = (None, false, None);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        match text.strip_prefix('-') {
            None => directory = Some(argument),
            Some("N") => {
                target = Some(arguments.next().ok_or_else(|| usage("-N needs a namespace".to_owned()))?);
            }
            Some("t") => {
                arguments.next().ok_or_else(|| usage("-t needs a type".to_owned()))?;
            }
            // Quiet, forced, and read-only instead: none of them changes what can be done here.
            Some(letters)
                if !letters.is_empty() && letters.chars().all(|letter| "flnrv".contains(letter)) =>
            {
                lazy |= letters.contains('l');
            }
            Some(_) => return Err(usage(format!("{text} is not known"))),
        }
    }
    let directory = directory.ok_or_else(|| usage("a directory is needed".to_owned()))?;
    let homifs = program::find()?;
    if let Some(target) = target {
        namespace::join(&target)?;
    }
    let mut command = Command::new(&homifs);
    command.arg("umount").args(lazy.then_some("--lazy")).arg("--").arg(directory);
    let status = command
        .status()
        .map_err(|source| HelperError::Run { program: homifs.display().to_string(), source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::SYSTEM))
}
