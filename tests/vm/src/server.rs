//! `homifs controller` in the background.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Background;

/// A `homifs controller` that serves an image at a socket.
#[derive(Debug)]
pub struct ControllerServer {
    process: Background,
    folder: TempDir,
}

impl ControllerServer {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// Where it ends instead, with what it said.
    pub fn start<S: AsRef<OsStr>>(image: &Path, options: impl IntoIterator<Item = S>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("homifs-controller-").tempdir()?;
        let socket = folder.path().join("cntrl");
        let mut process = Background::start(&mounts::homifs()?, |command| {
            command.arg("controller").arg(image).arg("--socket").arg(&socket).args(options);
        })?;
        process.wait_until("listening", Duration::from_secs(20), || socket.exists())?;
        Ok(Self { process, folder })
    }

    /// The folder of the socket, which is what SPDK's programs want to be told.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("cntrl")
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// Ends it as a user does, after which the image is whole.
    ///
    /// # Errors
    /// Where it does not end in time, not well, or leaves its socket behind.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "homifs controller ended with {status}: {}", self.process.said().trim());
        ensure!(!self.socket().exists(), "homifs controller left its socket behind");
        Ok(())
    }
}
