//! `homifs extents`: where the bytes of files lie.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::arguments::{Extents, Format};
use crate::failure::Failure;
use crate::file_map::FileMap;
use crate::volume::Unmounted;
use crate::{Result, tree, volume};

#[derive(Debug, Serialize)]
struct Maps {
    version: u32,
    files: Vec<FileMap>,
}

pub(crate) fn run(arguments: &Extents) -> Result {
    let volume = match &arguments.device {
        Some(spec) => Some(volume::open_unmounted(spec, &arguments.place)?),
        None => None,
    };
    let mut files = Vec::new();
    for path in arguments.files.iter().chain(&arguments.path) {
        files.push(match &volume {
            Some(volume) => of_unmounted(volume, path)?,
            None => FileMap::of_mounted(path)?,
        });
    }
    let mut output = io::stdout().lock();
    match arguments.output.output {
        Format::Json => {
            serde_json::to_writer_pretty(&mut output, &Maps { version: 1, files })?;
            writeln!(output)?;
        }
        Format::Table => {
            for file in &files {
                table(&mut output, file)?;
            }
        }
    }
    Ok(())
}

fn of_unmounted(volume: &Unmounted, path: &Path) -> Result<FileMap> {
    let homifs = &volume.homifs;
    let found = tree::find(homifs, path)?;
    let shown = path.display().to_string();
    if !found.metadata.is_regular() {
        return Err(Failure::plain(format!("{shown}: only regular files have extents to show")));
    }
    let map =
        homifs.volume().extents(found.metadata.ino).map_err(|error| Failure::file(&shown, &error.into()))?;
    Ok(FileMap::new(path, &map, homifs.volume().info().block_size, volume.start))
}

/// As `filefrag -v` has it: blocks of the file system, counted from the start of the volume.
fn table(output: &mut dyn Write, file: &FileMap) -> io::Result<()> {
    let block = u64::from(file.block_size_bytes).max(1);
    let blocks = |bytes: u64| bytes.div_ceil(block);
    writeln!(
        output,
        "File size of {} is {} ({} block{} of {} bytes)",
        file.path,
        file.file_size_bytes,
        blocks(file.file_size_bytes),
        if blocks(file.file_size_bytes) == 1 { "" } else { "s" },
        block
    )?;
    if !file.extents.is_empty() {
        writeln!(output, " ext:     logical_offset:        physical_offset: length:   expected: flags:")?;
    }
    let mut fragments = 0;
    let mut expected = None;
    for (number, extent) in file.extents.iter().enumerate() {
        let (logical, physical) = (extent.logical_bytes / block, extent.physical_bytes / block);
        let length = blocks(extent.length_bytes);
        let (last_logical, last_physical) = (logical + length.max(1) - 1, physical + length.max(1) - 1);
        let broken = expected.is_some_and(|expected| expected != physical);
        fragments += u64::from(expected.is_none() || broken);
        let told = expected.filter(|_| broken).map(|expected| format!("{expected}:")).unwrap_or_default();
        let mut flags = extent.flags.clone();
        if number + 1 == file.extents.len() {
            flags.push("last");
        }
        if extent.logical_bytes + extent.length_bytes >= file.file_size_bytes {
            flags.push("eof");
        }
        writeln!(
            output,
            "{number:>4}: {logical:>8}..{last_logical:>8}: {physical:>10}..{last_physical:>10}: {length:>6}: {told:>11} {}",
            flags.join(",")
        )?;
        expected = Some(last_physical + 1);
    }
    writeln!(output, "{}: {fragments} extent{} found", file.path, if fragments == 1 { "" } else { "s" })
}
