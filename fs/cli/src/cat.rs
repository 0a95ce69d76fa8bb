//! `homifs cat`: file contents, by the same engine that serves mounts.

use std::io::{self, Write as _};
use std::path::Path;

use homifs_core::Homifs;

use crate::arguments::Cat;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{Result, tree, volume};

/// As much as the kernel asks for at once on a mount.
const STEP: u32 = 1 << 20;

pub(crate) fn run(arguments: &Cat) -> Result {
    let volume = volume::open_unmounted(&arguments.spec, &arguments.place)?;
    for path in &arguments.paths {
        write(&volume.homifs, path)?;
    }
    Ok(())
}

fn write(homifs: &Homifs, path: &Path) -> Result {
    let shown = path.display().to_string();
    let failed = |error| Failure::file(&shown, &error);
    let found = tree::find(homifs, path)?;
    if !found.metadata.is_regular() {
        return Err(Failure::plain(format!("{shown}: only regular files have contents to show")));
    }
    let handle = homifs.open(found.node, false).map_err(failed)?.handle;
    let mut progress = Progress::bytes(found.metadata.size);
    let mut output = io::stdout().lock();
    let mut offset = 0;
    loop {
        let written =
            homifs.read(handle, offset, STEP, |bytes| output.write_all(bytes).map(|()| bytes.len()));
        let length = written.map_err(failed)?? as u64;
        if length == 0 {
            break;
        }
        offset += length;
        progress.advance(length);
    }
    homifs.release(handle);
    output.flush()?;
    Ok(())
}
