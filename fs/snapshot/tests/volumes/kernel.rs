//! A tree as the kernel shows it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use homi_abi::snapshot::PATH_MAX;
use oracle::{Format, KernelMount, Piece, fiemap};

#[derive(Default)]
pub(crate) struct KernelTree {
    pub(crate) files: BTreeMap<Vec<u8>, Found>,
    pub(crate) directories: u64,
    pub(crate) links: u64,
    pub(crate) specials: u64,
    /// Encrypted without a key, or behind paths that are too long.
    pub(crate) unreadable: u64,
}

pub(crate) struct Found {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) generation: Option<u32>,
    pub(crate) map: Vec<Piece>,
}

pub(crate) fn kernel_tree(image: &Path, format: Format) -> Result<KernelTree> {
    let mount = KernelMount::read_only(image, format)?;
    let mut tree = KernelTree::default();
    walk(&File::open(mount.path())?, Path::new(""), &mut tree)?;
    mount.unmount()?;
    Ok(tree)
}

/// Goes by open directories, since the tree is deeper than paths can be.
fn walk(directory: &File, below: &Path, tree: &mut KernelTree) -> Result<()> {
    tree.directories += 1;
    for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            tree.links += 1;
        } else if !kind.is_dir() && !kind.is_file() {
            tree.specials += 1;
        } else if path.as_os_str().len() > PATH_MAX {
            tree.unreadable += 1;
        } else if kind.is_dir() {
            walk(&File::open(entry.path())?, &path, tree)?;
        } else {
            let metadata = entry.metadata()?;
            match File::open(entry.path()) {
                Err(error) if error.raw_os_error() == Some(libc::ENOKEY) => tree.unreadable += 1,
                opened => {
                    let opened = opened.with_context(|| format!("{path:?}"))?;
                    let map = fiemap(opened.as_fd()).with_context(|| format!("{path:?}"))?;
                    let found = Found {
                        inode: metadata.ino(),
                        size: metadata.size(),
                        generation: generation(&opened),
                        map,
                    };
                    tree.files.insert(path.as_os_str().as_bytes().to_vec(), found);
                }
            }
        }
    }
    Ok(())
}

/// The generation of a file; none where the format does not tell.
fn generation(file: &File) -> Option<u32> {
    const FS_IOC_GETVERSION: libc::Ioctl = 0x8008_7601;
    let mut version: libc::c_long = 0;
    // SAFETY: The kernel writes one number into `version`.
    let told = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION, &raw mut version) };
    // The kernel writes 32 bits of it.
    (told == 0).then(|| u32::try_from(version & 0xffff_ffff).ok()).flatten()
}
