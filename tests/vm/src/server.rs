//! `homifs controller` in the background.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Background;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);

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
            command.arg("controller").arg(image).arg("--socket").arg(&socket).arg("--control").args(options);
            command.stdin(Stdio::piped());
        })?;
        process.wait_until("listening", PATIENCE, || socket.exists())?;
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

    /// Has it carry out a command, such as `add DEVICE` or `remove NSID`, and waits for the answer.
    ///
    /// # Errors
    /// Where it refuses, or does not answer in time.
    pub fn command(&mut self, command: &str) -> Result<()> {
        let answers = |said: &str| -> Vec<String> {
            // A line that is not ended may be half an answer.
            let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            lines
                .filter(|line| line.starts_with("ok") || line.starts_with("error"))
                .map(str::to_owned)
                .collect()
        };
        let before = answers(&self.process.said()).len();
        self.process.tell(&format!("{command}\n"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = answers(&self.process.said()).get(before) {
                ensure!(answer.starts_with("ok"), "homifs controller refuses {command:?}: {}", answer.trim());
                return Ok(());
            }
            ensure!(Instant::now() < until, "no answer to {command:?}: {}", self.process.said().trim());
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a user does, after which the image is whole.
    ///
    /// # Errors
    /// Where it does not end in time, not well, or leaves its socket behind.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "homifs controller ended with {status}: {}", self.process.said().trim());
        ensure!(!self.socket().exists(), "homifs controller left its socket behind");
        Ok(())
    }
}
