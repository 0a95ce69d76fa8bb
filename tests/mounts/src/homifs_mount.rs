//! Mounts of homifs that go away with the test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use oracle::command::run;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::engine::{ControllerProcess, Engine};
use crate::programs::homifs;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line of `/proc/mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// What is mounted, as the file writes it.
    pub source: String,
    /// The type.
    pub kind: String,
    /// Its options.
    pub options: Vec<String>,
}

/// What `/proc/mounts` says of a directory; the last that was mounted there.
#[must_use]
pub fn mount_entry(directory: &Path) -> Option<MountEntry> {
    let table = fs::read_to_string("/proc/mounts").unwrap_or_default();
    table.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let (source, place, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (place.as_bytes() == directory.as_os_str().as_bytes()).then(|| MountEntry {
            source: source.into(),
            kind: kind.into(),
            options: options.split(',').map(str::to_owned).collect(),
        })
    })
}

/// A folder with a mount on it that is cleared away when this goes out of scope, whatever state it is in.
#[derive(Debug)]
pub struct HomifsMount {
    folder: TempDir,
    daemon: Option<Daemon>,
    /// Dropped last, so that nobody waits for it in vain while unmounting.
    controller: Option<ControllerProcess>,
}

/// A `homifs mount -f` that we started.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    said: tempfile::NamedTempFile,
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// What the system says.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(id, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(5));
        }
        bail!("the daemon did not end within {PATIENCE:?}")
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.said.path()).unwrap_or_default()
    }
}

impl HomifsMount {
    /// A folder to mount on, by the caller.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn prepare() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("homifs-mount-").tempdir()?;
        Ok(Self { folder, daemon: None, controller: None })
    }

    /// Mounts the image or device at `path` with a daemon that is our child, by the [engine](Engine::of_this_run) of
    /// this run.
    ///
    /// # Errors
    /// Where the daemon ends before the mount is there, with what it said.
    pub fn new(path: &Path, options: &str) -> Result<Self> {
        Self::by(Engine::of_this_run(), path, options)
    }

    /// As [`new`](Self::new), by this engine.
    ///
    /// # Errors
    /// As there, and where a controller does not come up.
    pub fn by(engine: Engine, path: &Path, options: &str) -> Result<Self> {
        let (spec, controller) = engine.spec(path)?;
        let mut mount = Self::prepare()?;
        mount.controller = controller;
        mount.serve(&spec, options)?;
        Ok(mount)
    }

    /// Mounts what a spec names, as it is.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_spec(spec: &Path, options: &str) -> Result<Self> {
        let mut mount = Self::prepare()?;
        mount.serve(spec, options)?;
        Ok(mount)
    }

    fn serve(&mut self, spec: &Path, options: &str) -> Result<()> {
        let said = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(homifs()?);
        command.args(["mount", "-f"]);
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        command.arg(spec).arg(self.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen()?);
        let child = command.spawn().context("cannot start homifs")?;
        let daemon = self.daemon.insert(Daemon { child, said });
        let until = Instant::now() + PATIENCE;
        while mount_entry(self.folder.path()).is_none() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("homifs ended with {status}: {}", daemon.said().trim());
            }
            if Instant::now() > until {
                bail!("no mount after {PATIENCE:?}: {}", daemon.said());
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path on the mount.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The daemon, where it is our child.
    ///
    /// # Panics
    /// Where the mount was not made by [`new`](Self::new).
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon is not our child")
    }

    /// What `/proc/mounts` says of it.
    #[must_use]
    pub fn entry(&self) -> Option<MountEntry> {
        mount_entry(self.path())
    }
}

impl Drop for HomifsMount {
    fn drop(&mut self) {
        // More than one may lie on top of each other.
        while mount_entry(self.folder.path()).is_some() {
            if let Err(error) = run("umount", [OsStr::new("--lazy"), self.folder.path().as_os_str()]) {
                eprintln!("{error:#}");
                break;
            }
        }
        if let Some(daemon) = &mut self.daemon {
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until && matches!(daemon.child.try_wait(), Ok(None)) {
                sleep(Duration::from_millis(5));
            }
            let _ = daemon.child.kill();
            let _ = daemon.child.wait();
            if std::thread::panicking() {
                eprintln!("the daemon said: {}", daemon.said());
            }
        }
    }
}
