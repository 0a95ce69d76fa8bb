//! Finds and runs `homifs mount`.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use homifs_options::MountOptions;

use crate::arguments::Invocation;
use crate::{HelperError, exit};

/// Where the program may be, besides beside the helper. PATH is not asked: mount(8) may run us for an ordinary user.
const PLACES: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// The program that mounts. The helper itself may be a link into the folder where the two were installed.
pub(crate) fn find() -> Result<PathBuf, HelperError> {
    let helper = std::env::current_exe().unwrap_or_default();
    let beside = helper.parent().unwrap_or(Path::new("/"));
    let places = std::iter::once(beside).chain(PLACES.iter().map(Path::new));
    places
        .map(|place| place.join("homifs"))
        .find(|program| program.is_file())
        .ok_or_else(|| HelperError::NoProgram { beside: helper.display().to_string() })
}

/// Runs it and answers with its exit code; its one line of error goes to where ours would.
pub(crate) fn mount(
    program: &Path,
    invocation: &Invocation,
    options: &MountOptions,
) -> Result<u8, HelperError> {
    let mut command = Command::new(program);
    command.arg("mount").arg("-o").arg(options.to_string());
    if invocation.verbose {
        command.arg("--verbose");
    } else {
        // It says how the volume is read; mount(8) says nothing.
        command.stdout(Stdio::null());
    }
    command.arg("--").arg(&invocation.source).arg(&invocation.directory);
    run(command, program)
}

/// Lets a mount that is there be changed.
pub(crate) fn remount(program: &Path, invocation: &Invocation) -> Result<u8, HelperError> {
    let mut command = Command::new(program);
    command.arg("remount").arg("-o").arg(invocation.lists.join(","));
    command.arg("--").arg(&invocation.directory);
    run(command, program)
}

fn run(mut command: Command, program: &Path) -> Result<u8, HelperError> {
    command.stdin(Stdio::null());
    let status = command
        .status()
        .map_err(|source| HelperError::Run { program: program.display().to_string(), source })?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(u8::try_from(code).unwrap_or(exit::SYSTEM)),
        (None, signal) => {
            let why = std::io::Error::other(format!("it was ended by signal {}", signal.unwrap_or_default()));
            Err(HelperError::Run { program: program.display().to_string(), source: why })
        }
    }
}
