//! A program in the background that ends with the test.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

/// A running program. It is killed where this goes out of scope, also in a panic, and by the system where this process
/// is killed itself.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    said: tempfile::NamedTempFile,
}

impl Background {
    /// Starts it; what it writes is kept for [`said`](Self::said).
    ///
    /// The system ends it with the thread that starts it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(program: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let said = tempfile::NamedTempFile::new()?;
        // Becomes the program, and dies with us where we can no longer drop anything.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
        // Two places in one file would write over each other.
        let both = fs::File::options().append(true).open(said.path())?;
        command.stdout(both.try_clone()?).stderr(both);
        prepare(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let started = Self { name, child, said };
        // An emulator that stops on an assertion of its own would leave its guest's memory in the sources' folder.
        let no_core = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(Pid::from_child(&started.child)), Resource::Core, no_core)?;
        Ok(started)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, to either stream.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read(self.said.path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Writes to its standard input, which `prepare` must have made a pipe.
    ///
    /// # Errors
    /// Where it takes none.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().with_context(|| format!("{} has no input", self.name))?;
        input.write_all(text.as_bytes()).with_context(|| format!("{} takes no input", self.name))
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// Where the program ends before, or the time is over; with what it said.
    pub fn wait_until(&mut self, what: &str, patience: Duration, mut so: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            if so() {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status} before {what}: {}", self.name, self.said().trim());
            }
            if Instant::now() > until {
                bail!("{}: not {what} after {patience:?}: {}", self.name, self.said().trim());
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// What the system says.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(rustix::process::kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where the time is over.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {patience:?}: {}", self.name, self.said().trim());
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{} said: {}", self.name, self.said().trim());
        }
    }
}
