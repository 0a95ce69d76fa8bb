//! Encrypted directories: filled with their key, then compared with what the kernel shows without it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::{compare, image, populate};

const ADD_KEY: libc::c_ulong = 0xC050_6617;
const SET_POLICY: libc::c_ulong = 0x800C_6613;

/// `struct fscrypt_add_key_arg`, with a raw key of 64 bytes behind it.
#[repr(C)]
struct AddKey {
    spec_type: u32,
    spec_reserved: u32,
    identifier: [u8; 32],
    raw_size: u32,
    key_id: u32,
    reserved: [u32; 8],
    raw: [u8; 64],
}

/// `struct fscrypt_policy_v2`.
#[repr(C)]
struct Policy {
    version: u8,
    contents_mode: u8,
    filenames_mode: u8,
    flags: u8,
    log2_data_unit_size: u8,
    reserved: [u8; 3],
    identifier: [u8; 16],
}

/// Adds a key to the mounted volume and makes an empty directory that is encrypted with it; `false`, with the
/// reason on stdout, where the kernel cannot.
fn encrypted_directory(root: &Path, name: &str, padding: u8) -> bool {
    const SPEC_IDENTIFIER: u32 = 2;
    const AES_256_XTS: u8 = 1;
    const AES_256_CTS: u8 = 4;
    let mut key = AddKey {
        spec_type: SPEC_IDENTIFIER,
        spec_reserved: 0,
        identifier: [0; 32],
        raw_size: 64,
        key_id: 0,
        reserved: [0; 8],
        raw: [0x5A; 64],
    };
    let volume = File::open(root).unwrap();
    // SAFETY: the argument is laid out as struct fscrypt_add_key_arg, followed by as many bytes as raw_size says.
    if unsafe { libc::ioctl(volume.as_raw_fd(), ADD_KEY, &raw mut key) } != 0 {
        println!("skipped: no key can be added here: {}", std::io::Error::last_os_error());
        return false;
    }
    let dir = root.join(name);
    fs::create_dir(&dir).unwrap();
    let policy = Policy {
        version: 2,
        contents_mode: AES_256_XTS,
        filenames_mode: AES_256_CTS,
        flags: padding,
        log2_data_unit_size: 0,
        reserved: [0; 3],
        identifier: key.identifier[..16].try_into().unwrap(),
    };
    let opened = File::open(&dir).unwrap();
    // SAFETY: the argument is laid out as struct fscrypt_policy_v2, whose version it names.
    let done = unsafe { libc::ioctl(opened.as_raw_fd(), SET_POLICY, &raw const policy) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    true
}

fn fill(dir: &Path) {
    for length in [1, 5, 16, 17, 32, 100, 142, 143, 148, 149, 150, 180, 255] {
        fs::write(dir.join("n".repeat(length)), populate::pattern(length * 30, 2)).unwrap();
    }
    for length in [1, 20, 60, 200, 1000] {
        std::os::unix::fs::symlink("t".repeat(length), dir.join(format!("link-{length}"))).unwrap();
    }
    fs::create_dir(dir.join("below")).unwrap();
    fs::write(dir.join("below/file"), b"secret").unwrap();
    populate::many(&dir.join("many"), 700);
}

fn agrees(mkfs: &str) {
    let mut able = false;
    let image = image::filled(32, mkfs, |root| {
        for (name, padding) in [("padded to 4", 0), ("padded to 32", 3)] {
            able = encrypted_directory(root, name, padding);
            if !able {
                return;
            }
            fill(&root.join(name));
        }
    });
    let Some(image) = image.filter(|_| able) else { return };
    let Some(mount) = image.mount("ro") else { return };
    let compared = compare::trees(&image.open(), mount.path(), &image.path());
    assert!(compared.names > 1200, "{compared:?}");
}

#[test]
fn encrypted_directories_are_listed_as_the_kernel_lists_them_without_the_key() {
    agrees("-O encrypt");
}

#[test]
fn encrypted_directories_of_1k_blocks_are_listed_as_the_kernel_lists_them_without_the_key() {
    agrees("-O encrypt,stable_inodes -b 1024");
}

#[test]
fn encrypted_directories_without_index_are_listed_as_the_kernel_lists_them_without_the_key() {
    agrees("-O encrypt,^dir_index");
}
