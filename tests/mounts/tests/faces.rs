//! Programs in C and Python that read by queues, beside pread(2).
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mounts::{Engine, HomifsMount, image_of, library, outcome};
use oracle::{machine, skip_if};

/// Folders of the oracle's volumes with files of every shape: holes, unwritten, inline, shared, long.
const FOLDERS: [&str; 5] = ["holes", "inline", "special", "reflinks", "times"];
const CAPI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/capi");
const DEVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/device");

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn files_of(mount: &HomifsMount) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in FOLDERS.map(|folder| mount.join(folder)).iter().filter(|folder| folder.exists()) {
        files_below(folder, &mut files)?;
    }
    ensure!(files.len() > 20, "only {} files to read", files.len());
    Ok(files)
}

/// Compiles a program of `gpu/capi/tests` against the header and the library.
fn compiled(compiler: &str, source: &str, folder: &Path) -> Result<PathBuf> {
    let program = folder.join("program");
    let library = library()?;
    let beside = library.parent().context("the library has a folder")?;
    let mut command = Command::new(compiler);
    command.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    command.args(["-I", &format!("{CAPI}/include"), "-I", &format!("{DEVICE}/include")]);
    command.arg(format!("{CAPI}/tests/{source}")).arg(&library).arg("-o").arg(&program);
    let output = command.arg(format!("-Wl,-rpath,{}", beside.display())).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}

#[test]
fn c_program_reads_every_file_as_pread_does() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!((!machine::has_tool("cc")).then(|| "no C compiler".to_owned()));
    let folder = tempfile::tempdir()?;
    let program = compiled("cc", "read_files.c", folder.path())?;
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, vec![b'x'; 70_000])?;
    for (volume, engine) in
        [("ext4-default", Engine::Kernel), ("xfs-default", Engine::Kernel), ("ext4-default", Engine::Soft)]
    {
        let mount = HomifsMount::by(engine, &image_of(volume)?.0, "clients=2")?;
        let files = files_of(&mount)?;
        let read = outcome(&program, [elsewhere.clone()].iter().chain(&files))?;
        let said = read.succeeded().with_context(|| format!("{volume} by {engine}"))?;
        let (number, _) = said.split_once(" files, ").context("it says what it read")?;
        ensure!(number.parse::<usize>()? == files.len(), "{said}");
    }
    Ok(())
}

#[test]
fn c_program_with_queues_of_its_own_reads_what_pread_gives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!((!machine::has_tool("c++")).then(|| "no C++ compiler".to_owned()));
    let folder = tempfile::tempdir()?;
    let program = compiled("c++", "own_queues.cc", folder.path())?;
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    let mut read = 0;
    for path in files_of(&mount)? {
        let size = fs::metadata(&path)?.len();
        if size == 0 || size > 16 << 20 {
            continue;
        }
        let pairs = if read % 2 == 0 { "1" } else { "5" };
        let path = path.to_str().context("its name is text")?;
        let said = outcome(&program, [path, pairs])?;
        ensure!(said.succeeded()?.trim() == format!("{size} bytes"), "{said:?}");
        read += 1;
    }
    ensure!(read > 10, "only {read} files were read");
    Ok(())
}
