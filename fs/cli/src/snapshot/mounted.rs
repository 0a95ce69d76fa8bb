//! A snapshot of a directory of a mount, which its daemon takes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use homi_client::Session;
use serde::Serialize;

use super::{Listed, list, listed};
use crate::Result;
use crate::arguments::{Format, Snapshot};
use crate::failure::Failure;

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    root: &'a str,
    arena_bytes: u64,
    files: u64,
    left_out: u64,
    extents: u64,
    files_bytes: u64,
    block_size_bytes: u32,
    volume_start_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<Vec<Listed>>,
}

/// Asks the daemon for it, as any client would: of files that the caller may read.
pub(super) fn run(arguments: &Snapshot, directory: &Path) -> Result {
    let shown = directory.display().to_string();
    let cannot = |error: &homi_client::ClientError| {
        Failure::plain(format!("cannot take a snapshot of {shown}: {}", error.sentence()))
    };
    let opened = File::open(directory).map_err(|error| Failure::io(&shown, &error))?;
    let session = Session::of_file(&opened).map_err(|error| cannot(&error))?;
    let snapshot = session.snapshot(&opened).map_err(|error| cannot(&error))?;
    let view = snapshot.view().map_err(|error| cannot(&error))?;
    let header = *view.header();
    if snapshot.files() > arguments.max_files {
        return Err(Failure::plain(format!(
            "{shown} has {} files, more than the {} of --max-files",
            snapshot.files(),
            arguments.max_files
        )));
    }
    if let Some(path) = &arguments.write {
        std::fs::write(path, snapshot.arena().bytes())
            .map_err(|error| Failure::io(path.display(), &error))?;
    }
    let mut output = BufWriter::new(io::stdout().lock());
    match arguments.output.output {
        Format::Json => {
            let report = Report {
                version: 1,
                root: &shown,
                arena_bytes: header.length.get(),
                files: snapshot.files(),
                left_out: snapshot.left_out(),
                extents: header.extents.get(),
                files_bytes: header.bytes.get(),
                block_size_bytes: header.block_size.get(),
                volume_start_bytes: header.volume_start.get(),
                list: arguments.list.then(|| listed(&view)),
            };
            serde_json::to_writer_pretty(&mut output, &report)?;
            writeln!(output)?;
        }
        Format::Table => {
            if arguments.list {
                list(&mut output, &view)?;
            }
            write!(
                output,
                "{} files, {} extents, {} bytes; an arena of {} bytes",
                snapshot.files(),
                header.extents,
                header.bytes,
                header.length
            )?;
            if snapshot.left_out() > 0 {
                write!(output, "; left out {} that cannot be read", snapshot.left_out())?;
            }
            writeln!(output)?;
        }
    }
    output.flush()?;
    Ok(())
}
