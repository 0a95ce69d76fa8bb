//! The device's header, compiled for the host, finds what Rust finds.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use homi_abi::snapshot::View;

const DEVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/device");
const ABI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/abi/include");

/// Looks every path up by a program in C++, made by each compiler at hand.
pub(crate) fn compare(view: &View<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let arena = folder.path().join("arena");
    std::fs::write(&arena, view.as_bytes())?;
    let paths = folder.path().join("paths");
    let mut list = Vec::new();
    let mut expected = String::new();
    for file in view.files() {
        list.extend_from_slice(view.path(file));
        list.push(0);
        let place = view.lookup(view.path(file)).context("not found by Rust")?;
        line(&mut expected, place, file, view)?;
    }
    for absent in [&b"no such file"[..], b"/", b".", b"directories/"] {
        list.extend_from_slice(absent);
        list.push(0);
        expected.push_str("absent\n");
    }
    std::fs::write(&paths, list)?;
    let mut tried = 0;
    for compiler in ["g++", "clang++"] {
        let program = folder.path().join(format!("lookup-{compiler}"));
        let mut command = Command::new(compiler);
        command.args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-I", ABI, "-I"]);
        command.arg(format!("{DEVICE}/include")).arg(format!("{DEVICE}/tests/snapshot_lookup.cpp"));
        let Ok(made) = command.arg("-o").arg(&program).output() else { continue };
        ensure!(made.status.success(), "{compiler}: {}", String::from_utf8_lossy(&made.stderr));
        let output = Command::new(&program).arg(&arena).arg(&paths).output()?;
        ensure!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout)?;
        for (number, (theirs, ours)) in told.lines().zip(expected.lines()).enumerate() {
            ensure!(theirs == ours, "{compiler}: line {number}: {theirs}, expected {ours}");
        }
        ensure!(told.len() == expected.len(), "{compiler}: the answers are not as many as the paths");
        tried += 1;
    }
    if tried == 0 {
        println!("skipped: no C++ compiler on this machine");
    }
    Ok(())
}

fn line(text: &mut String, place: usize, file: &homi_abi::snapshot::File, view: &View<'_>) -> Result<()> {
    let (inode, size, first_block) = (file.inode, file.size, file.first_block);
    write!(text, "{place} {inode} {size} {first_block} {} {}", file.generation, file.flags)?;
    for extent in view.extents(file) {
        write!(text, " {}:{}:{}:{}", extent.logical, extent.physical, extent.length, extent.flags)?;
    }
    text.push('\n');
    Ok(())
}
