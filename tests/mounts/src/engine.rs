//! The ways to a device that a mount can take, so that one test drives all of them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, ffi::OsStr, fmt, fs};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::programs::homifs;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The path as it is: through the kernel.
    Kernel,
    /// `soft:`, a controller in the process that mounts.
    Soft,
    /// `vfio-user:`, a controller in a process of its own.
    VfioUser,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::Soft, Self::VfioUser];

    /// The one that `HOMIFS_TEST_ENGINE` names: the kernel's where it names none.
    ///
    /// # Panics
    /// Where it names something else, so that no run tests less than was asked for.
    #[must_use]
    pub fn of_this_run() -> Self {
        let named = env::var("HOMIFS_TEST_ENGINE").unwrap_or_default();
        if named.is_empty() {
            return Self::Kernel;
        }
        let all = Self::ALL.map(|engine| engine.to_string());
        let found = Self::ALL.into_iter().find(|engine| engine.to_string() == named);
        found.unwrap_or_else(|| panic!("HOMIFS_TEST_ENGINE={named}: choose one of {all:?}"))
    }

    /// What to mount so that the device at `path` is reached this way, and the controller where there must be one.
    ///
    /// # Errors
    /// Where a controller does not come up.
    pub fn spec(self, path: &Path) -> Result<(PathBuf, Option<ControllerProcess>)> {
        match self {
            Self::Kernel => Ok((path.to_owned(), None)),
            Self::Soft => Ok((prefixed("soft:", path), None)),
            Self::VfioUser => {
                let controller = ControllerProcess::start([path], &["--read-only"])?;
                Ok((controller.spec(), Some(controller)))
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Soft => "soft",
            Self::VfioUser => "vfio-user",
        })
    }
}

fn prefixed(prefix: &str, path: &Path) -> PathBuf {
    let mut spec = std::ffi::OsString::from(prefix);
    spec.push(path);
    spec.into()
}

/// A `homifs controller` that ends with the test.
#[derive(Debug)]
pub struct ControllerProcess {
    child: Child,
    folder: TempDir,
    said: tempfile::NamedTempFile,
}

impl ControllerProcess {
    /// Starts one over these devices and waits until it is ready.
    ///
    /// # Errors
    /// Where it ends instead, with what it said.
    pub fn start<S: AsRef<OsStr>>(devices: impl IntoIterator<Item = S>, options: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("homifs-controller-").tempdir()?;
        let said = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(homifs()?);
        command.arg("controller").args(devices).arg("--socket").arg(folder.path().join("cntrl"));
        command.args(options).stdin(Stdio::null()).stdout(said.reopen()?).stderr(said.reopen()?);
        let child = command.spawn().context("cannot start homifs controller")?;
        let mut process = Self { child, folder, said };
        process.wait_until_ready()?;
        Ok(process)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        // The line on standard output comes after the socket.
        while !self.said().contains("ready: ") {
            if let Some(status) = self.child.try_wait()? {
                bail!("homifs controller ended with {status}: {}", self.said().trim());
            }
            ensure!(Instant::now() < until, "homifs controller is not ready: {}", self.said());
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("cntrl")
    }

    /// What to mount to reach it.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        prefixed("vfio-user:", &self.socket())
    }

    /// What it wrote.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.said.path()).unwrap_or_default()
    }

    /// Ends it with a signal, and waits for that.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(2));
        }
        bail!("homifs controller did not end within {PATIENCE:?}: {}", self.said())
    }
}

impl Drop for ControllerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("homifs controller said: {}", self.said());
        }
    }
}
