//! How the process that serves a mount tells the one that started it how that went.
//!
//! It writes to its standard output: the word `ready` and what it serves, or an exit code and a message. Then it gives that
//! output up, so the other side, which reads to the end, also learns of a process that dies without a word.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use homifs_options::MountOptions;

use crate::Result;
use crate::failure::{Failure, exit};

const READY: &str = "ready";

/// The side that serves.
#[derive(Debug)]
pub(crate) struct Reporter;

impl Reporter {
    /// Tells that the mount answers, and how it is served, and leaves terminal and directory.
    pub(crate) fn ready(&self, summary: &str) -> Result {
        let failed = |error| Failure::io("cannot leave the terminal", &error);
        rustix::process::chdir("/").map_err(|error| failed(error.into()))?;
        say(&format!("{READY} {}", summary.replace('\n', " "))).map_err(failed)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
        rustix::stdio::dup2_stdout(&null).map_err(|error| failed(error.into()))?;
        rustix::stdio::dup2_stderr(&null).map_err(|error| failed(error.into()))
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// Runs the side that serves; what fails before it is ready is reported.
pub(crate) fn report(serve: impl FnOnce(&Reporter) -> Result) -> Result {
    // Signals of the terminal that the mount was made from are not for us. That fails only for who leads one already.
    let _ = rustix::process::setsid();
    let result = serve(&Reporter);
    result.map_err(|failure| {
        tracing::error!("{}", failure.message);
        // After `ready` this goes to /dev/null.
        let _ = say(&format!("{} {}", failure.code, failure.message.replace('\n', " ")));
        Failure::new(failure.code, "")
    })
}

/// Starts the side that serves and waits for its report: how the mount is served.
pub(crate) fn start(spec: &str, directory: &Path, options: &MountOptions) -> Result<String> {
    let system =
        |what: &str, error: &std::io::Error| Failure { code: exit::SYSTEM, ..Failure::io(what, error) };
    let program =
        std::env::current_exe().map_err(|error| system("cannot find this program's file", &error))?;
    let mut command = Command::new(program);
    command.args(["mount", "--daemon", "-o", &options.to_string(), "--", spec]).arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| system("cannot start the background process", &error))?;
    let mut told = String::new();
    if let Some(mut output) = child.stdout.take() {
        output
            .read_to_string(&mut told)
            .map_err(|error| system("cannot hear from the background process", &error))?;
    }
    match told.trim_end().split_once(' ') {
        Some((READY, summary)) => Ok(summary.to_owned()),
        Some((code, message)) if code.parse::<u8>().is_ok() => {
            // Wait for its end, so that what it held is free when we say that it failed.
            let _ = child.wait();
            Err(Failure::new(code.parse().unwrap_or(exit::MOUNT), message))
        }
        _ => {
            let end = child.wait().map(|status| status.to_string());
            let end = end.unwrap_or_else(|error| error.to_string());
            Err(Failure::new(
                exit::SYSTEM,
                format!("the background process ended before the mount answered ({end})"),
            ))
        }
    }
}
