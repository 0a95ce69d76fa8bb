//! One volume for each feature and block size that mkfs.ext4 can make and the kernel can mount.

use extents_core::FileSystem;

use crate::{compare, image, populate};

/// Fills a volume made by these arguments with everything, and compares all of it.
fn agrees(mib: u64, mkfs: &str) {
    let Some(image) = image::filled(mib, mkfs, populate::everything) else { return };
    let Some(mount) = image.mount("ro") else { return };
    let volume = image.open();
    let compared = compare::trees(&volume, mount.path(), &image.path());
    assert!(compared.names > 1800 && compared.extents > 100 && compared.xattrs > 20, "{compared:?}");
    assert!(compared.bytes > 5 << 20, "{compared:?}");
    compare::space(&volume, mount.path());
    let (held, limit) = volume.cache_usage();
    assert!(held > 0 && held <= limit);
}

macro_rules! volumes {
    ($($name:ident: $mib:literal, $mkfs:literal;)*) => {$(
        #[test]
        fn $name() {
            agrees($mib, $mkfs);
        }
    )*};
}

volumes! {
    default_volume_agrees_with_the_kernel: 64, "";
    ext2_volume_agrees_with_the_kernel: 64, "-t ext2";
    ext3_volume_agrees_with_the_kernel: 64, "-t ext3 -J size=4";
    ext2_1k_blocks_128_byte_inodes_agrees_with_the_kernel: 64, "-t ext2 -b 1024 -I 128";
    ext3_1k_blocks_agrees_with_the_kernel: 64, "-t ext3 -b 1024 -I 256 -J size=4";
    blocks_of_1k_agrees_with_the_kernel: 64, "-b 1024";
    blocks_of_2k_agrees_with_the_kernel: 64, "-b 2048";
    inodes_of_128_bytes_agrees_with_the_kernel: 64, "-I 128 -O ^metadata_csum";
    inodes_of_1k_agrees_with_the_kernel: 64, "-I 1024 -N 4096";
    no_64bit_agrees_with_the_kernel: 64, "-O ^64bit";
    no_checksums_agrees_with_the_kernel: 64, "-O ^metadata_csum,^uninit_bg";
    uninit_bg_agrees_with_the_kernel: 64, "-O ^metadata_csum,uninit_bg";
    uninit_bg_with_64bit_agrees_with_the_kernel: 64, "-O ^metadata_csum,uninit_bg,64bit";
    csum_seed_agrees_with_the_kernel: 64, "-O metadata_csum_seed";
    meta_bg_agrees_with_the_kernel: 300, "-b 1024 -O meta_bg,^resize_inode";
    no_flex_bg_agrees_with_the_kernel: 300, "-b 1024 -O ^flex_bg";
    sparse_super2_agrees_with_the_kernel: 300, "-b 1024 -O sparse_super2,^resize_inode";
    no_sparse_super_agrees_with_the_kernel: 100, "-b 1024 -O ^sparse_super,^resize_inode";
    bigalloc_agrees_with_the_kernel: 128, "-O bigalloc -C 16384";
    bigalloc_1k_blocks_agrees_with_the_kernel: 128, "-O bigalloc -b 1024 -C 8192";
    inline_data_agrees_with_the_kernel: 64, "-O inline_data";
    inline_data_1k_inodes_agrees_with_the_kernel: 64, "-O inline_data -I 1024 -N 4096";
    ea_inode_agrees_with_the_kernel: 64, "-O ea_inode";
    ea_inode_without_checksums_agrees_with_the_kernel: 64, "-O ea_inode,^metadata_csum";
    large_dir_agrees_with_the_kernel: 64, "-b 1024 -O large_dir";
    no_dir_index_agrees_with_the_kernel: 64, "-O ^dir_index";
    orphan_file_agrees_with_the_kernel: 64, "-O orphan_file";
    fast_commit_agrees_with_the_kernel: 64, "-O fast_commit";
    mmp_agrees_with_the_kernel: 64, "-O mmp -E mmp_update_interval=1";
    no_journal_agrees_with_the_kernel: 64, "-O ^has_journal";
    stable_inodes_agrees_with_the_kernel: 64, "-O stable_inodes";
    no_extents_agrees_with_the_kernel: 64, "-O ^extents,^64bit";
    no_huge_file_agrees_with_the_kernel: 64, "-O ^huge_file";
}

#[test]
fn info_features_are_named_as_dumpe2fs_names_them() {
    let Some(image) = image::Image::make(
        16,
        "-L homi -U 01234567-89ab-cdef-0123-456789abcdef -O casefold,encrypt,verity,ea_inode,large_dir,inline_data",
    ) else {
        return;
    };
    let printed = image.tool("dumpe2fs", &["-h"]);
    let line = printed.lines().find_map(|line| line.strip_prefix("Filesystem features:")).unwrap();
    let theirs: Vec<&str> = line.split_whitespace().collect();
    let volume = image.open();
    let info = volume.info();
    let ours: Vec<&str> = info.features.iter().map(|feature| &*feature.name).collect();
    assert_eq!(ours, theirs);
    assert_eq!((info.format, &*info.label, info.uuid[0], info.uuid[15]), ("ext4", &b"homi"[..], 0x01, 0xef));
    assert_eq!((info.size, info.block_size), (16 << 20, 1024));
}

#[test]
fn info_multi_mount_protection_tells_who_has_the_volume() {
    let told = |image: &image::Image| {
        let volume = image.open();
        let detail = volume.info().details.iter().find(|(name, _)| *name == "multi-mount protection");
        detail.unwrap().1.clone()
    };
    let Some(image) = image::Image::make(16, "-O mmp -E mmp_update_interval=1") else { return };
    assert!(told(&image).contains("nobody"), "{}", told(&image));
    let Some(mount) = image.mount("rw") else { return };
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let during = told(&image);
    drop(mount);
    assert!(during.contains(node.trim()), "{during}");
    assert!(told(&image).contains("nobody"));
}

#[test]
fn usage_of_clusters_that_mkfs_did_not_count_agrees_with_the_kernel() {
    for mkfs in
        ["-O bigalloc -C 16384", "-O bigalloc -b 1024 -C 8192", "-O bigalloc,^flex_bg -b 1024 -C 4096"]
    {
        let Some(image) = image::Image::make(256, mkfs) else { return };
        image.debugfs(&["set_super_value overhead_clusters 0"]);
        let Some(mount) = image.mount("ro") else { return };
        compare::space(&image.open(), mount.path());
    }
}
