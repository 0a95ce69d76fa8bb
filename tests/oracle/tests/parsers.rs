//! Our parsers must show of every volume of the table what the kernel shows: each name, stat, link, attribute, byte and
//! extent.

use std::sync::Arc;

use anyhow::{Result, ensure};
use extents_core::FileSystem;
use extents_volume::VolumeOptions;
use libtest_mimic::{Arguments, Failed, Trial};
use oracle::{
    Aspects, Image, KernelMount, VOLUMES, Volume, differences, image, machine, mounted_tree, parsed_tree,
};

fn main() {
    let trials = VOLUMES.iter().map(|volume| {
        Trial::test(format!("parser_agrees_with_kernel_{}", volume.name), move || {
            compare(volume).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn compare(volume: &Volume) -> Result<()> {
    if let Some(reason) = machine::cannot_mount() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let image = image::build(volume)?;
    let device = Arc::new(Image::open(&image)?);
    let opened = extents_volume::open(device.clone(), &VolumeOptions::default())?;
    let kernel = KernelMount::read_only(&image, volume.format)?;

    // First: XFS without newer trees finds blocks that nobody can have with each group that it reads.
    same_space(&*opened.fs, &kernel)?;
    let (expected, found) = (mounted_tree(kernel.path())?, parsed_tree(&*opened.fs, &*device)?);
    ensure!(expected.oddities.is_empty(), "the kernel's own listing is odd: {:?}", expected.oddities);
    let report = differences(&expected, &found, Aspects::PARSER);
    ensure!(report.0.is_empty(), "{report}");
    Ok(())
}

/// What `statfs` tells of the kernel's mount must be what our parser tells.
fn same_space(fs: &dyn FileSystem, kernel: &KernelMount) -> Result<()> {
    let (expected, found) = (rustix::fs::statvfs(kernel.path())?, fs.usage()?);
    let expected = [
        expected.f_bsize,
        expected.f_blocks,
        expected.f_bfree,
        expected.f_files,
        expected.f_ffree,
        expected.f_namemax,
    ];
    let block = u64::from(found.block_size);
    let found = [block, found.blocks, found.free, found.files, found.files_free, found.name_max.into()];
    ensure!(expected == found, "statfs gives {expected:?}, the parser {found:?}");
    Ok(())
}
