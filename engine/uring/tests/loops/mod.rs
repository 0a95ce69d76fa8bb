//! Loop devices for tests.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device that is detached at the end.
pub(crate) struct Loop(PathBuf);

impl Loop {
    /// Attaches `image` with these arguments for losetup; says why and answers none where this machine cannot.
    pub(crate) fn attach(image: &Path, arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show"]).args(arguments).arg(image);
        match command.output() {
            Ok(output) if output.status.success() => {
                Some(Self(String::from_utf8(output.stdout).unwrap().trim().into()))
            }
            Ok(output) => {
                println!("skipped: losetup: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no losetup: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Detaches it now.
    pub(crate) fn detach(self) {}
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &[OsStr::new("--detach"), self.0.as_os_str()]);
    }
}

/// Runs a program; answers whether it succeeded, and shows what it complained about.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            if !output.status.success() {
                println!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            output.status.success()
        }
        Err(error) => {
            println!("{program}: {error}");
            false
        }
    }
}
