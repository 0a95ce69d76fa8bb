//! What the device holds behind the ends of files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use oracle::command::run;

/// Fills what the last block of a file has behind the file's end with a pattern, in the image of an ext4 volume with blocks
/// of 4096 bytes that nobody has mounted. How many bytes that were.
///
/// # Errors
/// Where the file has no such block, or ends with it.
pub fn fill_past_the_end(image: &Path, file: &str, size: u64, pattern: &[u8]) -> Result<u64> {
    const BLOCK: u64 = 4096;
    let text = run("debugfs", ["-R", &format!("blocks {file}"), &image.to_string_lossy()])?;
    let last = text.split_whitespace().next_back().with_context(|| format!("{file} has no blocks"))?;
    let last: u64 = last.parse().with_context(|| format!("{file}: {text}"))?;
    let within = size % BLOCK;
    ensure!(last > 0 && within > 0, "{file} of {size} bytes has nothing behind its end");
    let left = BLOCK - within;
    let bytes: Vec<u8> = pattern.iter().copied().cycle().take(usize::try_from(left)?).collect();
    File::options().write(true).open(image)?.write_all_at(&bytes, last * BLOCK + within)?;
    Ok(left)
}
