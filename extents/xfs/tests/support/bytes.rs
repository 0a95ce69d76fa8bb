//! Changing bytes of an image and making its checksums fit again.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use extents_core::{FileSystem, Ino};

use super::Image;

/// Puts the checksum of version 5 into a block, at byte `at`.
pub fn fix_crc(block: &mut [u8], at: usize) {
    block[at..at + 4].fill(0);
    let crc = crc32c::crc32c(block);
    block[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The byte of the volume where block `number` of an inode's attribute fork lies, by xfs_db.
pub fn attr_block(image: &Image, ino: Ino, number: u64) -> u64 {
    let text = image.xfs_db(&[&format!("inode {ino}"), &format!("ablock {number}"), "daddr"]);
    let daddr: u64 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
    daddr * 512
}

/// Sets the flags of an entry in the first attribute leaf of an inode.
pub fn set_in_attr_leaf_entry(image: &Image, ino: Ino, entry: usize, flags: u8) {
    let at = attr_block(image, ino, 0);
    let file = OpenOptions::new().read(true).write(true).open(image.path()).unwrap();
    let mut block = vec![0; image.open().info().block_size as usize];
    file.read_exact_at(&mut block, at).unwrap();
    assert_eq!(block[8..10], [0x3b, 0xee], "an attribute leaf of version 5");
    block[80 + entry * 8 + 6] = flags;
    fix_crc(&mut block, 12);
    file.write_all_at(&block, at).unwrap();
}
