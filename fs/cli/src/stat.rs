//! `homifs stat`: what is known of a file.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use extents_core::{FileType, InodeFlags, Metadata, Timestamp};
use homifs_core::Homifs;
use serde::Serialize;

use crate::arguments::{Format, Stat};
use crate::failure::Failure;
use crate::{Result, output, tree, volume};

#[derive(Debug, Serialize)]
struct Files {
    version: u32,
    files: Vec<File>,
}

/// A file as `-o json` gives it; times are seconds since 1970 and nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    path: String,
    #[serde(rename = "type")]
    file_type: &'static str,
    ino: u64,
    generation: u32,
    mode: String,
    links: u32,
    uid: u32,
    gid: u32,
    size_bytes: u64,
    allocated_bytes: u64,
    accessed: (i64, u32),
    modified: (i64, u32),
    changed: (i64, u32),
    born: Option<(i64, u32)>,
    device: Option<(u32, u32)>,
    project: u32,
    flags: Vec<String>,
    target: Option<String>,
}

pub(crate) fn run(arguments: &Stat) -> Result {
    let volume = volume::open_unmounted(&arguments.spec, &arguments.place)?;
    let homifs = &volume.homifs;
    let mut output = io::stdout().lock();
    let mut files = Vec::new();
    for path in &arguments.paths {
        let found = tree::find_itself(homifs, path)?;
        let target = target(homifs, path, &found)?;
        match arguments.output.output {
            Format::Table => text(&mut output, homifs, path, &found.metadata, target.as_deref())?,
            Format::Json => files.push(file(&path.to_string_lossy(), &found.metadata, target)),
        }
    }
    if arguments.output.output == Format::Json {
        serde_json::to_writer_pretty(&mut output, &Files { version: 1, files })?;
        writeln!(output)?;
    }
    Ok(())
}

fn target(homifs: &Homifs, path: &Path, found: &homifs_core::NodeAttributes) -> Result<Option<String>> {
    if found.metadata.file_type != FileType::Symlink {
        return Ok(None);
    }
    let target = homifs.read_link(found.node);
    let target = target.map_err(|error| Failure::file(&path.display().to_string(), &error))?;
    Ok(Some(output::name(&target)))
}

fn text(
    output: &mut dyn Write,
    homifs: &Homifs,
    path: &Path,
    metadata: &Metadata,
    target: Option<&str>,
) -> io::Result<()> {
    let points_to = target.map(|target| format!(" -> {target}")).unwrap_or_default();
    writeln!(output, "  File: {}{points_to}", path.display())?;
    writeln!(
        output,
        "  Size: {:<15} Blocks: {:<10} IO Block: {:<6} {}",
        metadata.size,
        metadata.sectors,
        homifs.volume().info().block_size,
        type_name(metadata.file_type)
    )?;
    write!(
        output,
        " Inode: {:<15} Links: {:<11} Generation: {:<10}",
        metadata.ino, metadata.links, metadata.generation
    )?;
    if matches!(metadata.file_type, FileType::CharDevice | FileType::BlockDevice) {
        write!(output, " Device type: {},{}", metadata.device.major, metadata.device.minor)?;
    }
    writeln!(output)?;
    writeln!(
        output,
        "Access: ({:04o}/{})  Uid: {}  Gid: {}  Project: {}",
        metadata.mode & 0o7777,
        output::mode(metadata.mode, metadata.file_type),
        metadata.uid,
        metadata.gid,
        metadata.project
    )?;
    if !metadata.flags.is_empty() {
        writeln!(output, " Flags: {}", flag_names(metadata.flags).join(", "))?;
    }
    let times = [("Access", metadata.accessed), ("Modify", metadata.modified), ("Change", metadata.changed)];
    for (what, at) in times.into_iter().chain(metadata.born.map(|born| (" Birth", born))) {
        writeln!(output, "{what}: {} +0000", output::time(at))?;
    }
    let mut names = Vec::new();
    let listed = homifs.volume().xattrs(metadata.ino, &mut |xattr| {
        names.push(format!("{}{}", xattr.namespace.prefix(), output::name(xattr.name)));
        ControlFlow::Continue(())
    });
    match listed {
        Ok(()) if names.is_empty() => Ok(()),
        Ok(()) => writeln!(output, "Xattrs: {}", names.join(", ")),
        Err(error) => writeln!(output, "Xattrs: cannot be read: {error}"),
    }
}

/// A file for `-o json`.
pub(crate) fn file(path: &str, metadata: &Metadata, target: Option<String>) -> File {
    let pair = |at: Timestamp| (at.seconds, at.nanoseconds);
    let special = matches!(metadata.file_type, FileType::CharDevice | FileType::BlockDevice);
    File {
        path: path.to_owned(),
        file_type: type_name(metadata.file_type),
        ino: metadata.ino.0,
        generation: metadata.generation,
        mode: format!("{:04o}", metadata.mode & 0o7777),
        links: metadata.links,
        uid: metadata.uid,
        gid: metadata.gid,
        size_bytes: metadata.size,
        allocated_bytes: metadata.sectors.saturating_mul(512),
        accessed: pair(metadata.accessed),
        modified: pair(metadata.modified),
        changed: pair(metadata.changed),
        born: metadata.born.map(pair),
        device: special.then_some((metadata.device.major, metadata.device.minor)),
        project: metadata.project,
        flags: flag_names(metadata.flags),
        target,
    }
}

fn flag_names(flags: InodeFlags) -> Vec<String> {
    flags.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::CharDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    }
}
