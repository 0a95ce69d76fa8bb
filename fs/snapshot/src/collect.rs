//! What a walk finds, kept as it will stand in the arena.

use extents_core::{ExtentFlags, ExtentMap, Metadata, to_u64};
use homi_abi::extents::{self as abi, Entry};
use homi_abi::snapshot::File;

/// Files, extents and strings in the order they were found.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) files: Vec<File>,
    pub(crate) extents: Vec<Entry>,
    /// The root's path, then those of the files, each with its NUL. Places in `files` count from its start.
    pub(crate) strings: Vec<u8>,
    /// Bytes of all files, each counted in whole blocks.
    whole: u64,
}

impl Collected {
    pub(crate) fn new(root_path: &[u8]) -> Self {
        let mut collected = Self::default();
        collected.string(&[root_path]);
        collected
    }

    /// Adds a regular file, whose path is the parts one after another; not where all files together would have more
    /// bytes than 64 bits count, as those of a damaged volume may.
    #[must_use]
    pub(crate) fn file(
        &mut self,
        path: [&[u8]; 2],
        hash: u64,
        metadata: &Metadata,
        map: &ExtentMap,
        block_size: u32,
    ) -> bool {
        let first_extent = to_u64(self.extents.len());
        // What is allocated behind the last block is no part of the file.
        let end = map.size().checked_next_multiple_of(u64::from(block_size));
        let Some((end, whole)) = end.and_then(|end| Some((end, self.whole.checked_add(end)?))) else {
            return false;
        };
        self.whole = whole;
        let mut flags = 0;
        for extent in map.iter().take_while(|extent| extent.logical < end) {
            let of_extent = abi_flags(extent.flags);
            flags |= of_extent;
            self.extents.push(Entry {
                logical: extent.logical.into(),
                physical: extent.physical.into(),
                length: extent.length.min(end - extent.logical).into(),
                flags: of_extent.into(),
                reserved: 0.into(),
            });
        }
        let path_at = self.string(&path);
        let path_length = path.iter().map(|part| part.len()).sum::<usize>();
        self.files.push(File {
            hash: hash.into(),
            inode: metadata.ino.0.into(),
            size: map.size().into(),
            // Known once all files are sorted.
            first_block: 0.into(),
            first_extent: first_extent.into(),
            path_at: path_at.into(),
            // Both are bounded: a path by PATH_MAX, the extents by what a map of one file can have (2^32 blocks of ext4,
            // 2^31 extents of XFS).
            path_length: u32::try_from(path_length).unwrap_or(u32::MAX).into(),
            extents: u32::try_from(to_u64(self.extents.len()) - first_extent).unwrap_or(u32::MAX).into(),
            generation: metadata.generation.into(),
            flags: flags.into(),
        });
        true
    }

    fn string(&mut self, parts: &[&[u8]]) -> u64 {
        let at = to_u64(self.strings.len());
        parts.iter().for_each(|part| self.strings.extend_from_slice(part));
        self.strings.push(0);
        at
    }

    /// Bytes that all this takes in an arena, without its header, its index, and what aligns the sections.
    pub(crate) fn bytes(&self) -> u64 {
        to_u64(size_of::<File>() * self.files.len())
            + to_u64(size_of::<Entry>() * self.extents.len())
            + to_u64(self.strings.len())
    }
}

fn abi_flags(flags: ExtentFlags) -> u32 {
    let known = [
        (ExtentFlags::UNWRITTEN, abi::UNWRITTEN),
        (ExtentFlags::INLINE, abi::INLINE),
        (ExtentFlags::SHARED, abi::SHARED),
        (ExtentFlags::ENCODED, abi::ENCODED),
    ];
    known.into_iter().filter(|(ours, _)| flags.contains(*ours)).fold(0, |all, (_, theirs)| all | theirs)
}
