//! Images to mount.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oracle::{Format, VOLUMES, image};

/// The image of a volume of the oracle's table. Others use it too: not to be written to.
///
/// # Errors
/// Where there is no such volume or it cannot be made.
pub fn image_of(name: &str) -> Result<(PathBuf, Format)> {
    let volume =
        VOLUMES.iter().find(|volume| volume.name == name).with_context(|| format!("no volume {name}"))?;
    Ok((image::build(volume)?, volume.format))
}

/// A copy of such an image in `folder`, to be harmed.
///
/// # Errors
/// Where it cannot be made.
pub fn sample(folder: &Path, name: &str) -> Result<PathBuf> {
    let (image, _) = image_of(name)?;
    let copy = folder.join(format!("{name}.img"));
    copy_sparsely(&image, &copy)?;
    Ok(copy)
}

fn copy_sparsely(from: &Path, to: &Path) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let (mut source, mut copy) = (File::open(from)?, File::create(to)?);
    copy.set_len(fs::metadata(from)?.len())?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let length = source.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        if piece[..length].iter().any(|&byte| byte != 0) {
            copy.seek(SeekFrom::Start(at))?;
            copy.write_all(&piece[..length])?;
        }
        at += u64::try_from(length)?;
    }
}
