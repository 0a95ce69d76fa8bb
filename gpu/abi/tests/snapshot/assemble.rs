//! Writes arenas by the words of the layout, with none of the library's code, and with any hash.

pub(crate) struct Piece {
    pub(crate) logical: u64,
    pub(crate) physical: u64,
    pub(crate) length: u64,
    pub(crate) flags: u32,
}

pub(crate) struct File {
    pub(crate) hash: u64,
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) extents: Vec<Piece>,
}

pub(crate) const BLOCK: u64 = 4096;

/// Places of fields in the header and in a file, for tests that damage them.
pub(crate) mod place {
    pub(crate) const FILES: usize = 64;
    pub(crate) const FILES_AT: usize = 72;
    pub(crate) const INDEX_BITS: usize = 80;
    pub(crate) const INDEX_AT: usize = 88;
    pub(crate) const EXTENTS: usize = 96;
    pub(crate) const STRINGS: usize = 112;
    pub(crate) const STRINGS_AT: usize = 120;
    pub(crate) const BLOCKS: usize = 128;
    pub(crate) const ROOT_LENGTH: usize = 160;
    pub(crate) const FILE_SIZE: usize = 16;
    pub(crate) const FILE_FIRST_EXTENT: usize = 32;
    pub(crate) const FILE_PATH_AT: usize = 40;
    pub(crate) const FILE_FLAGS: usize = 60;
}

pub(crate) fn assemble(mut files: Vec<File>, index_bits: u32) -> Vec<u8> {
    files.sort_by(|one, other| (one.hash, &one.path).cmp(&(other.hash, &other.path)));
    let align = |at: u64| at.div_ceil(128) * 128;
    let pieces: u64 = files.iter().map(|file| file.extents.len() as u64).sum();
    let files_at = 256;
    let index_at = align(files_at + 64 * files.len() as u64);
    let extents_at = align(index_at + 4 * ((1 << index_bits) + 1));
    let strings_at = align(extents_at + 32 * pieces);

    let mut strings = b"/data\0".to_vec();
    let (mut table, mut extents) = (Vec::new(), Vec::new());
    let (mut first_block, mut bytes, mut all_flags) = (0, 0, 0);
    for (number, file) in files.iter().enumerate() {
        let flags = file.extents.iter().fold(0, |flags, piece| flags | piece.flags);
        let path_at = strings_at + strings.len() as u64;
        strings.extend_from_slice(&file.path);
        strings.push(0);
        let first_extent = extents.len() as u64 / 32;
        for word in [file.hash, 1000 + number as u64, file.size, first_block, first_extent, path_at] {
            table.extend(word.to_le_bytes());
        }
        for word in [file.path.len() as u32, file.extents.len() as u32, 7, flags] {
            table.extend(word.to_le_bytes());
        }
        for piece in &file.extents {
            for word in [piece.logical, piece.physical, piece.length, piece.flags.into()] {
                extents.extend(word.to_le_bytes());
            }
        }
        first_block += file.size.div_ceil(BLOCK);
        bytes += file.size;
        all_flags |= flags;
    }

    let mut arena = b"homisnap".to_vec();
    for half in [1_u16, 256, 64, 32] {
        arena.extend(half.to_le_bytes());
    }
    arena.extend(all_flags.to_le_bytes());
    arena.extend((BLOCK as u32).to_le_bytes());
    let length = strings_at + strings.len() as u64;
    let halves = u64::from(index_bits) | 1 << 32;
    for word in [length, 1 << 20, 0, 0, 1_700_000_000, files.len() as u64, files_at, halves, index_at] {
        arena.extend(word.to_le_bytes());
    }
    let root_length = 5 | 3 << 32;
    for word in [pieces, extents_at, strings.len() as u64, strings_at, first_block, bytes, 2, strings_at] {
        arena.extend(word.to_le_bytes());
    }
    arena.extend(u64::to_le_bytes(root_length));
    arena.resize(files_at as usize, 0);
    arena.extend(table);
    arena.resize(index_at as usize, 0);
    for number in 0..=1_u64 << index_bits {
        let below = files.iter().filter(|file| file.hash >> (64 - index_bits) < number).count();
        arena.extend((below as u32).to_le_bytes());
    }
    arena.resize(extents_at as usize, 0);
    arena.extend(extents);
    arena.resize(strings_at as usize, 0);
    arena.extend(strings);
    arena
}
