//! Damages real volumes and has the parsers read them.
//!
//! An input is a short list of changes to one of several small volumes that `seeds.sh` makes, so that it stays
//! small and reaches deep: changes aim at blocks that hold something, and checksums can be put right behind
//! them. Each run opens the volume and walks a bounded part of it. Whatever it finds there, it must not panic,
//! run on without end, or take memory by the size of what the volume claims.
//!
//! `fuzz_targets/` drives this by libFuzzer (`cargo fuzz`), `src/bin/drive.rs` by random numbers, for machines
//! that have neither a sanitizer nor the time.
#![forbid(unsafe_code)]

mod checksums;
mod damage;
mod device;
mod seeds;
mod walk;

use arbitrary::{Arbitrary, Unstructured};
use extents_ext4::Ext4;
use extents_jbd2::{Journal, Place};
use extents_xfs::Xfs;

use damage::Damage;
use device::Device;
pub use seeds::Target;

/// Most memory for metadata that a run may keep.
const CACHE: u64 = 1 << 20;

/// What an input says.
#[derive(Debug, Arbitrary)]
struct Input {
    seed: u8,
    norecovery: bool,
    mend_checksums: bool,
    damage: Vec<Damage>,
    /// Inodes to read without a name that leads there.
    inodes: Vec<u16>,
}

/// Runs one input and answers how much could be read: files, blocks of a journal, or partitions. 0 where already
/// the beginning was refused, or the bytes make no input.
pub fn check(target: Target, bytes: &[u8]) -> usize {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return 0 };
    let seeds = seeds::of(target);
    let seed = &seeds[usize::from(input.seed) % seeds.len()];
    let mut device = Device::new(seed.clone());
    for damage in input.damage.iter().take(64) {
        damage.apply(&mut device);
    }
    if input.mend_checksums {
        checksums::mend(target, &mut device);
    }
    match target {
        Target::Ext4 => ext4(device, &input),
        Target::Xfs => xfs(device, &input),
        Target::Jbd2 => jbd2(&device),
        Target::PartitionTable => partition_table(&device),
    }
}

fn ext4(device: Device, input: &Input) -> usize {
    let options = extents_ext4::OpenOptions {
        norecovery: input.norecovery,
        cache_bytes: CACHE,
        ..extents_ext4::OpenOptions::default()
    };
    let _ = Ext4::probe(&device);
    Ext4::open(device, &options).map_or(0, |volume| walk::walk(&volume, &input.inodes))
}

fn xfs(device: Device, input: &Input) -> usize {
    let options = extents_xfs::OpenOptions { norecovery: input.norecovery, cache_bytes: CACHE };
    let _ = Xfs::probe(&device);
    Xfs::open(device, &options).map_or(0, |volume| walk::walk(&volume, &input.inodes))
}

fn jbd2(device: &Device) -> usize {
    let mut recovered_blocks = 0;
    for block_size in [1024, 4096] {
        let read = |block: u64, buf: &mut [u8]| device.read(block.saturating_mul(u64::from(block_size)), buf);
        let blocks = device.len() / u64::from(block_size);
        let Ok(journal) = Journal::open(Place { block_size, blocks, superblock: 0, read: &read }) else {
            continue;
        };
        if let Ok(recovered) = journal.recover(1 << 20) {
            let held = u64::try_from(recovered.overlay.len()).expect("usize is 64 bits wide");
            assert!(held <= blocks, "more blocks came out of the journal than it has");
            recovered_blocks += recovered.overlay.len();
        }
    }
    recovered_blocks
}

fn partition_table(device: &Device) -> usize {
    let mut partitions = 0;
    for sector_size in [None, Some(512), Some(4096)] {
        if let Ok(Some(table)) = extents_volume::partition_table(device, sector_size) {
            partitions += table.partitions.len();
            let _ = format!("{table:?} {}", table.summary());
        }
    }
    let _ = extents_volume::contents(device);
    partitions
}
