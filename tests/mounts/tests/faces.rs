//! Programs in C and Python that read by queues, beside pread(2).
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use homi_client::{Client, ClientError, Fallback, ServedBy};
use mounts::{Engine, HomifsMount, PythonPackage, homifs, image_of, library, outcome, regular_files};
use oracle::{machine, skip_if};
use rustix::process::Signal;

/// Entries of a map that one attribute carries.
const ENTRIES_OF_ATTRIBUTE: u64 = 2045;
const CAPI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/capi");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/python");
const DEVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/device");

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
    for (volume, engine) in [
        ("ext4-default", Engine::Kernel),
        ("xfs-default", Engine::Kernel),
        ("ext4-default", Engine::Soft),
        ("ext4-fragmented", Engine::Kernel),
    ] {
        let mount = HomifsMount::by(engine, &image_of(volume)?.0, "clients=2")?;
        let files = regular_files(mount.path())?;
        let read = outcome(&program, [elsewhere.clone()].iter().chain(&files))?;
        let said = read.succeeded().with_context(|| format!("{volume} by {engine}"))?;
        let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [number, _, extents] = numbers[..] else { anyhow::bail!("{said}") };
        ensure!(number == u64::try_from(files.len())?, "{said}");
        ensure!(
            extents > ENTRIES_OF_ATTRIBUTE || volume != "ext4-fragmented",
            "no map of several parts: {said}"
        );
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
    for path in regular_files(mount.path())? {
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

/// A snapshot of a whole image, as `homifs snapshot` writes it.
fn snapshot_of(image: &Path, arena: &Path) -> Result<()> {
    let words = ["snapshot".as_ref(), image.as_os_str(), "/".as_ref(), "--write".as_ref(), arena.as_os_str()];
    let taken = outcome(homifs()?, words)?;
    ensure!(taken.code == Some(0), "{taken:?}");
    Ok(())
}

#[test]
fn python_programs_read_every_file_as_pread_does() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(PythonPackage::cannot_be_built());
    let package = PythonPackage::build()?;
    let (elsewhere, arena) = (package.folder().join("elsewhere"), package.folder().join("arena"));
    fs::write(&elsewhere, vec![b'x'; 70_000])?;
    for volume in ["ext4-default", "xfs-default"] {
        let image = image_of(volume)?.0;
        snapshot_of(&image, &arena)?;
        let mount = HomifsMount::new(&image, "clients=2")?;
        let (well, said) = package.run(|python| {
            python.args(["-W", "error", &format!("{PYTHON}/tests/test_homifs.py")]);
            python.env("HOMIFS_MOUNT", mount.path()).env("HOMIFS_SNAPSHOT", &arena);
            python.env("HOMIFS_ELSEWHERE", &elsewhere);
        })?;
        ensure!(well && said.contains("Ran 26 tests"), "{volume}: {said}");
    }
    Ok(())
}

#[test]
fn python_example_reads_small_files_into_one_tensor() -> Result<()> {
    const FILES: u32 = 10_000;
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(PythonPackage::cannot_be_built());
    let package = PythonPackage::build()?;
    let (tree, image) = (package.folder().join("tree"), package.folder().join("image"));
    for number in 0..FILES {
        let folder = tree.join(format!("class-{}", number % 10));
        fs::create_dir_all(&folder)?;
        let length = usize::try_from(number % 6007)?;
        let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(length).collect();
        fs::write(folder.join(format!("{number}.bin")), bytes)?;
    }
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-F", "-d"]).arg(&tree).arg(&image).args(["128M", "-N", "12000"]);
    let made = make.output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // No room for files that are opened: all are read through the snapshot.
    let mount = HomifsMount::new(&image, "clients=2,client_files=1")?;
    let (well, said) = package.run(|python| {
        python.arg(format!("{PYTHON}/examples/read_small_files.py")).arg(mount.path());
        python.args(["--files", &FILES.to_string(), "--verify"]);
    })?;
    println!("{said}");
    ensure!(well && said.contains(&format!("{FILES} files")) && said.contains("by queues"), "{said}");
    ensure!(said.contains(" 0 files differ"), "{said}");
    Ok(())
}

fn file_with_bytes(mount: &HomifsMount) -> Result<PathBuf> {
    let files = regular_files(mount.path())?;
    let mut with_bytes =
        files.into_iter().filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 9999));
    with_bytes.next().context("every file is empty")
}

#[test]
fn read_whose_daemon_was_killed_fails_at_once() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mut mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    let path = file_with_bytes(&mount)?;
    let client = Client::of_path(mount.path(), Fallback::Pread)?;
    let file = client.open(&path)?;
    let mut bytes = vec![0; 4096];
    let there = client.read(&file, 0, &mut bytes)?;
    ensure!(there > 0 && file.served_by() == ServedBy::Queues && client.is_alive());
    mount.daemon().signal(Signal::KILL)?;
    mount.daemon().wait()?;
    let start = Instant::now();
    let read = client.read(&file, 0, &mut bytes);
    ensure!(matches!(read, Err(ClientError::Gone | ClientError::System { .. })), "{read:?}");
    ensure!(start.elapsed() < Duration::from_secs(2), "after {:?}", start.elapsed());
    ensure!(!client.is_alive());
    // A daemon that is gone serves no pread(2) either.
    ensure!(file.served_by() == ServedBy::Queues, "{}", file.why());
    Ok(())
}

#[test]
fn file_that_stays_open_after_lazy_umount_reads_on() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for fallback in [Fallback::Refuse, Fallback::Pread] {
        let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
        let path = file_with_bytes(&mount)?;
        let client = Client::of_path(mount.path(), fallback)?;
        let file = client.open(&path)?;
        let mut wanted = vec![0; 4096];
        let there = client.read(&file, 0, &mut wanted)?;
        // Lazily: the file stays open, so the daemon goes on and the blocks stay the file's.
        let unmounted = outcome("umount", ["--lazy".as_ref(), mount.path().as_os_str()])?;
        unmounted.succeeded()?;
        let mut bytes = vec![0xaa; 4096];
        let again = client.read(&file, 0, &mut bytes)?;
        ensure!(again == there && bytes[..again] == wanted[..there], "{fallback:?}");
    }
    Ok(())
}
