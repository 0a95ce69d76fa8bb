//! The accelerator's programs, compiled for this machine's processor: their groups are threads of another process, which
//! reads real mounts by queues of its own. What only a compiler for accelerators can say is asked of it, where there is one.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context, Result, ensure};
use homi_abi::extents::INLINE;
use homi_client::{Client, Fallback};
use mounts::{Engine, HomifsMount, image_of};
use oracle::{machine, skip_if};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Every program, below `gpu/device`.
const PROGRAMS: [&str; 11] = [
    "tests/compare",
    "tests/dma_buf",
    "tests/half_written",
    "tests/read_file",
    "tests/snapshot",
    "bench/doorbell",
    "bench/throughput",
    "bench/processors",
    "bench/pread",
    "bench/cufile",
    "examples/checksum",
];

fn no_compiler() -> Option<String> {
    (!machine::has_tool("c++")).then(|| "no C++ compiler".to_owned())
}

/// A compiler that finds the project's headers.
fn compiler(name: &str) -> Command {
    let mut command = Command::new(name);
    command.args(["-std=c++17", "-Wall", "-Wextra", "-Werror"]);
    for folder in ["gpu/device/include", "gpu/abi/include", "gpu/device/bench"] {
        command.args(["-I", &format!("{ROOT}/{folder}")]);
    }
    command
}

fn source_of(program: &str) -> String {
    format!("{ROOT}/gpu/device/{program}.cu")
}

/// Builds a program for the host.
fn built(folder: &Path, program: &str, flags: &[&str]) -> Result<PathBuf> {
    let target = folder.join(program.replace('/', "-"));
    let output = compiler("c++")
        .args(["-O2", "-pthread", "-x", "c++"])
        .args(flags)
        .arg(source_of(program))
        .arg("-o")
        .arg(&target)
        .arg("-ldl")
        .output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(target)
}

/// Regular files below a folder, symbolic links not followed.
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

/// Files of these folders of a mount, at most `most` of each.
fn files_of(mount: &HomifsMount, folders: &[&str], most: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in folders {
        let mut some = Vec::new();
        files_below(&mount.path().join(name), &mut some)?;
        ensure!(!some.is_empty(), "no files below {name}");
        some.sort();
        // Spread over the folder, so that files of all kinds are among them.
        let step = some.len().div_ceil(most).max(1);
        files.extend(some.into_iter().step_by(step));
    }
    Ok(files)
}

fn said(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    texts.concat().trim().to_owned()
}

/// How commands name memory.
#[derive(Debug, Clone, Copy)]
enum Naming {
    Sgls,
    Prps,
}

/// Runs a program that compares, which says in the end that all is alike.
fn compare<S: AsRef<OsStr>>(
    program: &Path,
    naming: Naming,
    pairs: u32,
    paths: impl IntoIterator<Item = S>,
) -> Result<()> {
    let mut command = Command::new(program);
    let word = match naming {
        Naming::Sgls => "SGLs",
        Naming::Prps => {
            command.arg("--prp");
            "PRPs"
        }
    };
    let output = command.arg(pairs.to_string()).args(paths).output()?;
    let said = said(&output);
    ensure!(output.status.success(), "{pairs} pairs, {word}: {said}");
    ensure!(said.ends_with("alike") && said.contains(word), "{said}");
    Ok(())
}

/// How many of these files have bytes within metadata.
fn inline_files(mount: &HomifsMount, files: &[PathBuf]) -> Result<usize> {
    let client = Client::of_path(mount.path(), Fallback::Refuse)?;
    let mut found = 0;
    for path in files {
        let map = client.open(path)?.extents()?;
        found += usize::from(map.extents.iter().any(|extent| extent.flags & INLINE != 0));
    }
    Ok(found)
}

const SHAPES: [&str; 5] = ["holes", "inline", "special", "reflinks", "times"];

#[test]
fn device_source_on_every_engine_reads_every_byte_as_read_does() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let program = built(folder.path(), "tests/compare", &[])?;
    for volume in ["ext4-default", "ext4-inline", "xfs-default"] {
        for engine in Engine::ALL {
            let mount = HomifsMount::by(engine, &image_of(volume)?.0, "clients=2")?;
            let files = files_of(&mount, &SHAPES, 24)?;
            ensure!(files.len() > 20, "only {} files on {volume}", files.len());
            let inline = inline_files(&mount, &files)?;
            ensure!((inline > 5) == (volume == "ext4-inline"), "{inline} inline files on {volume}");
            for naming in [Naming::Sgls, Naming::Prps] {
                compare(&program, naming, 4, &files).with_context(|| format!("{volume} by {engine}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn fragmented_file_by_64_pairs_on_every_engine_reads_alike() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let program = built(folder.path(), "tests/compare", &[])?;
    for engine in Engine::ALL {
        let mount = HomifsMount::by(engine, &image_of("ext4-fragmented")?.0, "clients=2")?;
        let files = files_of(&mount, &["fragments"], 1)?;
        compare(&program, Naming::Sgls, 64, &files).with_context(|| engine.to_string())?;
    }
    Ok(())
}

#[test]
fn trees_read_through_one_snapshot_are_as_read_gives_them() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let program = built(folder.path(), "tests/snapshot", &[])?;
    for volume in ["ext4-inline", "xfs-default"] {
        let mount = HomifsMount::new(&image_of(volume)?.0, "clients=2")?;
        for shape in SHAPES {
            let tree = mount.path().join(shape);
            for naming in [Naming::Sgls, Naming::Prps] {
                compare(&program, naming, 3, [&tree]).with_context(|| format!("{shape} of {volume}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn fragmented_files_by_one_to_64_pairs_read_alike() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let program = built(folder.path(), "tests/compare", &[])?;
    for volume in ["ext4-fragmented", "xfs-fragmented"] {
        let mount = HomifsMount::new(&image_of(volume)?.0, "clients=2")?;
        let files = files_of(&mount, &["fragments"], 3)?;
        for pairs in [1, 2, 7, 16, 64] {
            compare(&program, Naming::Sgls, pairs, &files).with_context(|| volume)?;
        }
        for pairs in [1, 64] {
            compare(&program, Naming::Prps, pairs, &files).with_context(|| volume)?;
        }
    }
    Ok(())
}

#[test]
fn checksum_of_the_example_is_that_of_read() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let program = built(folder.path(), "examples/checksum", &[])?;
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    let files = files_of(&mount, &["inline", "times"], 4)?;
    for file in files.iter().filter(|file| fs::metadata(file).is_ok_and(|about| about.len() < 8 << 20)) {
        let output = Command::new(&program).arg(file).output()?;
        ensure!(output.status.success(), "{}", said(&output));
    }
    Ok(())
}

#[test]
fn program_on_another_file_system_says_what_to_do() -> Result<()> {
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let program = built(folder.path(), "examples/checksum", &[])?;
    let output = Command::new(&program).arg("/proc/self/status").output()?;
    ensure!(!output.status.success() && said(&output).contains("homifs mount"), "{}", said(&output));
    Ok(())
}

#[test]
fn poisoned_entries_show_none_half_written_unless_one_was_left_so() -> Result<()> {
    skip_if!(no_compiler());
    let folder = tempfile::tempdir()?;
    let good =
        Command::new(built(folder.path(), "tests/half_written", &[])?).args(["1", "2", "1"]).output()?;
    ensure!(good.status.success() && said(&good).contains(" 0 half-written"), "{}", said(&good));
    let bad = built(folder.path(), "tests/half_written", &["-DHOMI_UNFINISHED"])?;
    let bad = Command::new(bad).args(["1", "2", "1"]).output()?;
    ensure!(!bad.status.success() && !said(&bad).contains(" 0 half-written"), "{}", said(&bad));
    Ok(())
}

#[test]
fn every_program_compiles_for_the_host() -> Result<()> {
    skip_if!(no_compiler());
    for program in PROGRAMS {
        let output = compiler("c++").args(["-fsyntax-only", "-x", "c++"]).arg(source_of(program)).output()?;
        ensure!(output.status.success(), "{program}: {}", said(&output));
    }
    Ok(())
}

#[test]
fn every_program_compiles_as_hip_for_host_and_device() -> Result<()> {
    skip_if!((!machine::has_tool("hipcc")).then(|| "no hipcc (Debian: hipcc, rocm-device-libs)".to_owned()));
    let folder = tempfile::tempdir()?;
    let compile = |program: &str| -> Result<()> {
        let output = compiler("hipcc")
            .args(["-O1", "--offload-arch=gfx90a", "-c", "-x", "hip"])
            .arg(source_of(program))
            .arg("-o")
            .arg(folder.path().join(program.replace('/', "-")))
            .output()?;
        ensure!(output.status.success(), "{program}: {}", said(&output));
        Ok(())
    };
    // Each takes some seconds.
    let halves = PROGRAMS.split_at(PROGRAMS.len() / 2);
    let all = |programs: &[&str]| programs.iter().try_for_each(|program| compile(program));
    thread::scope(|scope| {
        let other = scope.spawn(|| all(halves.1));
        all(halves.0)?;
        other.join().map_err(|_| anyhow::anyhow!("a panic"))?
    })
}
