//! The Python package, built from this workspace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/python");

/// The package `homifs`, in a folder of its own that goes away with this.
#[derive(Debug)]
pub struct PythonPackage {
    folder: TempDir,
    python: PathBuf,
}

impl PythonPackage {
    /// Why it cannot be built here.
    #[must_use]
    pub fn cannot_be_built() -> Option<String> {
        tools().err()
    }

    /// Builds the wheel and installs it into a folder.
    ///
    /// # Errors
    /// Where maturin or pip says so.
    pub fn build() -> Result<Self> {
        let tools = tools().map_err(anyhow::Error::msg)?;
        let target = tools.with_file_name("python");
        fs::create_dir_all(&target)?;
        let folder = tempfile::tempdir()?;
        // Two maturins at a time would take the library away from each other.
        let lock = File::create(target.join("lock"))?;
        lock.lock()?;
        let mut maturin = Command::new(tools.join("bin/maturin"));
        maturin.args(["build", "--quiet", "--locked", "--profile", "dev", "--out"]).arg(folder.path());
        // A folder of its own: maturin's settings would have Cargo build parts of the workspace anew each time.
        maturin.arg("--target-dir").arg(target).arg("--interpreter").arg(tools.join("bin/python3"));
        let built = maturin.arg("--manifest-path").arg(format!("{SOURCE}/Cargo.toml")).output()?;
        ensure!(built.status.success(), "maturin: {}", String::from_utf8_lossy(&built.stderr));
        drop(lock);
        let wheels =
            fs::read_dir(folder.path())?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let python = tools.join("bin/python3");
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]);
        let installed = pip.arg(folder.path().join("site")).args(wheels).output()?;
        ensure!(installed.status.success(), "pip: {}", String::from_utf8_lossy(&installed.stderr));
        Ok(Self { folder, python })
    }

    /// A folder for whatever the test needs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs Python with the package; whether it went well, and what it said.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn run(&self, change: impl FnOnce(&mut Command)) -> Result<(bool, String)> {
        let mut command = Command::new(&self.python);
        command.env("PYTHONPATH", self.folder.path().join("site")).env("PYTHONDONTWRITEBYTECODE", "1");
        change(&mut command);
        let output = command.output().with_context(|| self.python.display().to_string())?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.success(), said.concat()))
    }
}

/// Where `.ci/setup test` put maturin and NumPy; why there are none otherwise.
fn tools() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    // Tests lie in `target/<profile>/deps`.
    let target = test.ancestors().nth(3).ok_or("the tests are not where Cargo puts them")?;
    let tools = target.join("python-tools");
    if tools.join("bin/maturin").exists() {
        return Ok(tools);
    }
    Err(format!("no maturin in {}; .ci/setup test installs it", tools.display()))
}
