//! Targets of symbolic links.

use extents_core::{Error, FileType, Ino, Result, to_usize};

use crate::dirhash::DirHash;
use crate::features::Incompat;
use crate::inode::{BLOCK_AREA, Flags, Inode};
use crate::nokey;
use crate::volume::Ext4;

impl Ext4 {
    /// The target of a link. That of an encrypted link comes as the kernel shows it to those without the key.
    pub(crate) fn link_target(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        if inode.file_type() != Some(FileType::Symlink) {
            return Err(Error::NotASymlink(ino));
        }
        self.target_of(&inode)
    }

    pub(crate) fn target_of(&self, inode: &Inode) -> Result<Vec<u8>> {
        let bytes = self.stored_target(inode)?;
        if inode.has(Flags::ENCRYPT) {
            return without_key(inode, &bytes);
        }
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(bytes.get(..end).unwrap_or_default().to_vec())
    }

    fn stored_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.has(Flags::INLINE_DATA) {
            return self.inline_data(inode);
        }
        let length = to_usize(inode.length);
        if self.is_fast(inode)? {
            return match inode.block_area().get(..length) {
                Some(target) if (1..BLOCK_AREA).contains(&length) => Ok(target.to_vec()),
                _ => Err(inode.corrupt("the target of a link within it is too long or empty")),
            };
        }
        // A target has one block, with a NUL at its end (`ext4_get_link`).
        if inode.length >= u64::from(self.geometry.block_size) {
            return Err(inode.corrupt("the target of a link is longer than a block"));
        }
        let mut target = vec![0; length];
        self.read_blocks(inode, 0, &mut target)?;
        Ok(target)
    }

    /// Whether the target lies in `i_block` (`ext4_inode_is_fast_symlink`).
    fn is_fast(&self, inode: &Inode) -> Result<bool> {
        let geometry = &self.geometry;
        if geometry.features.has(Incompat::EA_INODE) {
            return Ok((1..60).contains(&inode.length));
        }
        let for_xattrs = if inode.xattr_block(geometry)? == 0 {
            0
        } else {
            u64::from(geometry.cluster_blocks) << (geometry.block_bits - 9)
        };
        Ok(inode.sectors(geometry)? == for_xattrs)
    }
}

/// `fscrypt_get_symlink`: two bytes give the length of the ciphertext that follows them.
fn without_key(inode: &Inode, bytes: &[u8]) -> Result<Vec<u8>> {
    bytes
        .split_first_chunk()
        .and_then(|(length, ciphertext)| ciphertext.get(..usize::from(u16::from_le_bytes(*length))))
        .and_then(|ciphertext| nokey::encode(ciphertext, DirHash::default()))
        .ok_or_else(|| inode.corrupt("the target of an encrypted link is cut short"))
}
