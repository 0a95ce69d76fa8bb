//! The programs under test, built from this workspace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, process};

use anyhow::{Context, Result, ensure};

/// The `homifs` program, built if it was not built in this run of the tests.
///
/// # Errors
/// Where it cannot be built.
pub fn homifs() -> Result<PathBuf> {
    Ok(folder()?.join("homifs"))
}

/// The mount helper, which mount(8) knows as `mount.homifs`.
///
/// # Errors
/// Where it cannot be built.
pub fn helper() -> Result<PathBuf> {
    Ok(folder()?.join("mount-homifs"))
}

/// The library for C programs, `libhomifs.so`.
///
/// # Errors
/// Where it cannot be built.
pub fn library() -> Result<PathBuf> {
    Ok(folder()?.join("libhomifs.so"))
}

/// Where the programs are: `HOMIFS_PROGRAMS`, or beside the tests, where they are then built.
fn folder() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(given) = env::var_os("HOMIFS_PROGRAMS") {
        return Ok(given.into());
    }
    FOLDER.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

/// A package's tests do not depend on another package's programs, so Cargo is asked for them. Once for each run of the
/// tests: their processes have one parent.
fn build() -> Result<PathBuf> {
    let test = env::current_exe()?;
    // Tests lie in `target/<profile>/deps`.
    let profile = test.ancestors().nth(2).context("the tests are not where Cargo puts them")?.to_owned();
    let lock = File::create(profile.join(".homifs-programs.lock"))?;
    lock.lock()?;
    let stamp = profile.join(".homifs-programs.run");
    let run =
        rustix::process::getppid().map_or_else(process::id, |parent| parent.as_raw_pid().unsigned_abs());
    let run = format!("{run} {}", env::var("NEXTEST_RUN_ID").unwrap_or_default());
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == run) && profile.join("homifs").exists() {
        return Ok(profile);
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "homifs",
        "--package",
        "mount-homifs",
        "--package",
        "homifs-c",
    ]);
    cargo.arg("--target-dir");
    cargo.arg(profile.parent().context("the profile's folder has no parent")?);
    cargo.args((profile.file_name() == Some(OsStr::new("release"))).then_some("--release"));
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cannot build homifs: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&stamp, run)?;
    Ok(profile)
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// Checks that the program gave this code and one line that holds `words`.
    ///
    /// # Errors
    /// Where it did something else.
    pub fn refused_with(&self, code: i32, words: &[&str]) -> Result<()> {
        ensure!(self.code == Some(code), "expected exit code {code}: {self:?}");
        ensure!(self.stderr.trim_end().lines().count() == 1, "expected one line of error: {self:?}");
        for word in words {
            ensure!(self.stderr.contains(word), "expected {word:?} in the error: {self:?}");
        }
        Ok(())
    }

    /// Checks that the program succeeded without a complaint.
    ///
    /// # Errors
    /// Where it did not.
    pub fn succeeded(&self) -> Result<&str> {
        ensure!(self.code == Some(0) && self.stderr.is_empty(), "expected success in silence: {self:?}");
        Ok(&self.stdout)
    }
}

/// Runs a program to its end, however that is. What it starts in the background may go on.
///
/// # Errors
/// Where it cannot be started.
pub fn outcome<S: AsRef<OsStr>>(
    program: impl AsRef<Path>,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Outcome> {
    let program = program.as_ref();
    // Into files, not pipes: a daemon that kept them open would hold us.
    let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout.reopen()?)
        .stderr(stderr.reopen()?)
        .env("LC_ALL", "C")
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = |file: &tempfile::NamedTempFile| {
        fs::read(file.path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Outcome { code: status.code(), stdout: text(&stdout)?, stderr: text(&stderr)? })
}
