//! `homifs snapshot`: the files of a tree in one arena.

mod mounted;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;

use extents_core::ExtentFlags;
use homi_abi::extents as abi;
use homi_abi::snapshot::View;
use homifs_core::{error_chain, flag_names};
use homifs_snapshot::{Counts, Limits, Request, SnapshotError};
use serde::Serialize;

use crate::arguments::{Format, Snapshot};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{Result, output, tree, volume};

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    root: &'a str,
    arena_bytes: u64,
    files: u64,
    directories: u64,
    links_left_out: u64,
    specials_left_out: u64,
    unreadable_left_out: u64,
    extents: u64,
    files_bytes: u64,
    block_size_bytes: u32,
    volume_start_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<Vec<Listed>>,
}

#[derive(Debug, Serialize)]
struct Listed {
    path: String,
    hash: String,
    ino: u64,
    generation: u32,
    size_bytes: u64,
    first_block: u64,
    extents: u32,
    flags: Vec<&'static str>,
}

pub(crate) fn run(arguments: &Snapshot) -> Result {
    let mounted = std::path::Path::new(&arguments.spec);
    if mounted.is_dir() {
        let inside = arguments.directory.strip_prefix("/").unwrap_or(&arguments.directory);
        return mounted::run(arguments, &mounted.join(inside));
    }
    let volume = volume::open_unmounted(&arguments.spec, &arguments.place)?;
    let root = tree::find(&volume.homifs, &arguments.directory)?;
    let shown = arguments.directory.to_string_lossy();

    let mut progress = Progress::counter();
    let mut told = 0;
    let request =
        Request::new(volume.homifs.volume(), root.metadata.ino, arguments.directory.as_os_str().as_bytes())
            .volume_start(volume.start)
            .limits(Limits { files: arguments.max_files, ..Limits::default() })
            .complain(|path, error| {
                Failure::plain(format!("{}: {}; left out", output::name(path), error_chain(error))).tell();
            })
            .watch(|counts| {
                progress.advance(counts.files - told);
                told = counts.files;
                ControlFlow::Continue(())
            });
    let snapshot = homifs_snapshot::Snapshot::take(request).map_err(|error| failed(&shown, &error))?;
    drop(progress);
    let counts = *snapshot.counts();
    let header = *snapshot.header();

    // Only what is to be shown has to be in memory as a whole.
    let mut arena = Vec::new();
    if arguments.list {
        snapshot.write_to(&mut arena).map_err(|error| Failure::io("cannot take the snapshot", &error))?;
        if let Some(path) = &arguments.write {
            std::fs::write(path, &arena).map_err(|error| Failure::io(path.display(), &error))?;
        }
    } else if let Some(path) = &arguments.write {
        let write = || {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
            snapshot.write_to(&mut file)?;
            file.flush()
        };
        write().map_err(|error| Failure::io(path.display(), &error))?;
    }
    let view = if arguments.list {
        Some(View::new(&arena).map_err(|error| Failure::plain(error.to_string()))?)
    } else {
        None
    };

    let mut output = BufWriter::new(io::stdout().lock());
    match arguments.output.output {
        Format::Json => {
            let report = Report {
                version: 1,
                root: &shown,
                arena_bytes: header.length.get(),
                files: counts.files,
                directories: counts.directories,
                links_left_out: counts.links,
                specials_left_out: counts.specials,
                unreadable_left_out: counts.unreadable,
                extents: header.extents.get(),
                files_bytes: header.bytes.get(),
                block_size_bytes: header.block_size.get(),
                volume_start_bytes: header.volume_start.get(),
                list: view.map(|view| listed(&view)),
            };
            serde_json::to_writer_pretty(&mut output, &report)?;
            writeln!(output)?;
        }
        Format::Table => {
            if let Some(view) = view {
                list(&mut output, &view)?;
            }
            writeln!(output, "{}", summary(&counts, &header))?;
        }
    }
    output.flush()?;
    Ok(())
}

fn failed(path: &str, error: &SnapshotError) -> Failure {
    Failure::plain(match error {
        SnapshotError::NotADirectory(_) => error.to_string(),
        _ => format!("{path}: {}", error_chain(error)),
    })
}

fn summary(counts: &Counts, header: &homi_abi::snapshot::Header) -> String {
    let mut text = format!(
        "{} files in {} directories, {} extents, {} bytes; an arena of {} bytes",
        counts.files, counts.directories, header.extents, header.bytes, header.length
    );
    for (count, what) in [
        (counts.links, "symbolic links"),
        (counts.specials, "devices, pipes and sockets"),
        (counts.unreadable, "files that cannot be read"),
    ] {
        if count > 0 {
            text.push_str(&format!("; left out {count} {what}"));
        }
    }
    text
}

/// One line for each file, in the order of the arena.
fn list(output: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    writeln!(output, "            hash      inode         size first_block extents flags  path")?;
    for file in view.files() {
        let flags = flag_names(extent_flags(file.flags.get())).join(",");
        writeln!(
            output,
            "{:016x} {:>10} {:>12} {:>11} {:>7} {:<6} {}",
            file.hash.get(),
            file.inode.get(),
            file.size.get(),
            file.first_block.get(),
            file.extents.get(),
            if flags.is_empty() { "-" } else { &flags },
            output::name(view.path(file))
        )?;
    }
    Ok(())
}

fn listed(view: &View<'_>) -> Vec<Listed> {
    let files = view.files().iter().map(|file| Listed {
        path: String::from_utf8_lossy(view.path(file)).into_owned(),
        hash: format!("{:016x}", file.hash.get()),
        ino: file.inode.get(),
        generation: file.generation.get(),
        size_bytes: file.size.get(),
        first_block: file.first_block.get(),
        extents: file.extents.get(),
        flags: flag_names(extent_flags(file.flags.get())),
    });
    files.collect()
}

fn extent_flags(bits: u32) -> ExtentFlags {
    let known = [
        (abi::UNWRITTEN, ExtentFlags::UNWRITTEN),
        (abi::INLINE, ExtentFlags::INLINE),
        (abi::SHARED, ExtentFlags::SHARED),
        (abi::ENCODED, ExtentFlags::ENCODED),
    ];
    known.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).collect()
}
