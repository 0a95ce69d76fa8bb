//! Puts checksums right behind the damage, so that it reaches what they guard.
//!
//! Of ext4 that is the superblock's; the others depend on where a block belongs, and most ext4 seeds are made
//! without them. XFS version 5 names the kind of each block in it, so all of its are put right.

use crate::device::Device;
use crate::seeds::Target;

pub(crate) fn mend(target: Target, device: &mut Device) {
    match target {
        Target::Ext4 => {
            let superblock = device.bytes::<1024>(1024);
            let sum = raw_crc32c(!0, &superblock[..1020]);
            device.write(1024 + 1020, &sum.to_le_bytes());
        }
        Target::Xfs => xfs(device),
        Target::Jbd2 => {
            let mut superblock = device.bytes::<1024>(0);
            superblock[0xfc..0x100].fill(0);
            device.write(0xfc, &raw_crc32c(!0, &superblock).to_be_bytes());
        }
        Target::PartitionTable => {}
    }
}

/// CRC-32C without the inversions at its ends.
fn raw_crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

fn xfs(device: &mut Device) {
    let superblock = device.bytes::<512>(0);
    let half = |at: usize| u64::from(u16::from_be_bytes([superblock[at], superblock[at + 1]]));
    let block_size = u64::from(u32::from_be_bytes(device.bytes::<4>(4)));
    let (sector_size, inode_size) = (half(102), half(104));
    let sane = |size: u64, max: u64| size.is_power_of_two() && (256..=max).contains(&size);
    if !sane(block_size, 65536) || !sane(sector_size, 32768) || !sane(inode_size, 2048) {
        return;
    }
    for chunk in device.changed() {
        // A changed chunk may lie within a larger block, or hold several smaller structures.
        for (unit, kind) in
            [(sector_size, sector as fn(&[u8]) -> _), (block_size, block), (inode_size, inode)]
        {
            let first = chunk - chunk % unit;
            for start in (first..chunk + 1024).step_by(usize::try_from(unit).expect("at most 64 KiB")) {
                let mut bytes = vec![0; usize::try_from(unit).expect("at most 64 KiB")];
                if device.read(start, &mut bytes).is_err() {
                    continue;
                }
                if let Some(at) = kind(&bytes).filter(|at| at + 4 <= bytes.len()) {
                    bytes[at..at + 4].fill(0);
                    let sum = crc32c::crc32c(&bytes);
                    device.write(start + u64::try_from(at).expect("small"), &sum.to_le_bytes());
                }
            }
        }
    }
}

/// Where the checksum lies in a header that fills a sector.
fn sector(bytes: &[u8]) -> Option<usize> {
    match bytes.first_chunk::<4>()? {
        b"XFSB" => Some(224),
        b"XAGF" => Some(216),
        b"XAGI" => Some(312),
        b"XAFL" => Some(32),
        _ => None,
    }
}

/// Where it lies in a block.
fn block(bytes: &[u8]) -> Option<usize> {
    match bytes.first_chunk::<4>()? {
        b"XDB3" | b"XDD3" | b"XDF3" => return Some(4),
        b"XSLM" | b"XARM" => return Some(12),
        b"BMA3" => return Some(64),
        b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"R3FC" | b"RMB3" => return Some(52),
        _ => {}
    }
    match bytes.get(8..10)? {
        [0x3d, 0xf1 | 0xff] | [0x3e, 0xbe] | [0x3b, 0xee] => Some(12),
        _ => None,
    }
}

/// Where it lies in an inode of version 3.
fn inode(bytes: &[u8]) -> Option<usize> {
    (bytes.starts_with(b"IN") && bytes.get(4) == Some(&3)).then_some(100)
}
