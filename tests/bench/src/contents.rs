//! Makes a volume and fills it through the kernel.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::arguments::Format;
use crate::generator::Generator;
use crate::medium::command;

/// What a volume for a benchmark holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    /// MiB of bytes that do not compress in `data.bin`.
    pub(crate) data_mib: u64,
    /// Empty files in `big`.
    pub(crate) names: u32,
    /// Directories under `tree`, each with 1,000 files of one block.
    pub(crate) directories: u32,
    /// Extents of `fragments.bin`.
    pub(crate) extents: u32,
}

/// Files in each directory of the tree.
pub(crate) const FILES_EACH: u32 = 1000;

/// The name of a file in the large directory.
pub(crate) fn name(number: u32) -> String {
    format!("file-{number:08}.dat")
}

/// The place of a file in the tree.
pub(crate) fn tree_name(directory: u32, file: u32) -> String {
    format!("tree/{directory:04}/file-{file:04}")
}

/// Formats `device` (a block device, or an image file) and fills it through a kernel mount.
pub(crate) fn make(device: &Path, format: Format, contents: &Contents) -> Result<()> {
    let path = device.to_str().context("the path of the device is not UTF-8")?;
    let inodes = (contents.names + contents.directories * (FILES_EACH + 1) + 10_000).to_string();
    match format {
        Format::Ext4 => command(
            "mkfs.ext4",
            &["-q", "-F", "-b", "4096", "-N", &inodes, "-E", "lazy_itable_init=0,nodiscard", path],
        )?,
        Format::Xfs => command("mkfs.xfs", &["-q", "-f", "-K", path])?,
    };
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().to_str().context("the path of the temporary directory is not UTF-8")?;
    let mut options = if device.metadata()?.is_file() { "loop".to_owned() } else { "defaults".to_owned() };
    if format == Format::Xfs {
        // Without speculative preallocation, which would put an extent of its own into each gap of `fragments.bin`.
        options.push_str(",allocsize=4k");
    }
    command("mount", &["-t", format.name(), "-o", &options, path, mountpoint])?;
    let filled = fill(directory.path(), contents);
    command("umount", &[mountpoint])?;
    filled.context("fill the volume")
}

fn fill(root: &Path, contents: &Contents) -> Result<()> {
    let mut generator = Generator::new(1);
    let data = File::create(root.join("data.bin"))?;
    let mut buffer = vec![0; 1 << 20];
    for mib in 0..contents.data_mib {
        generator.fill(&mut buffer);
        data.write_all_at(&buffer, mib << 20)?;
    }
    data.sync_all()?;

    fs::create_dir(root.join("big"))?;
    for number in 0..contents.names {
        File::create(root.join("big").join(name(number)))?;
    }
    fs::create_dir(root.join("tree"))?;
    for directory in 0..contents.directories {
        fs::create_dir(root.join(format!("tree/{directory:04}")))?;
        for file in 0..FILES_EACH {
            // Pages of one repeated word take no memory on zram, and their blocks are allocated all the same.
            fs::write(root.join(tree_name(directory, file)), [0x42; 4096])?;
        }
    }
    let fragments = File::create(root.join("fragments.bin"))?;
    for extent in 0..u64::from(contents.extents) {
        fragments.write_all_at(&[0x42; 4096], extent * 8192)?;
    }
    fragments.sync_all()?;
    Ok(())
}
