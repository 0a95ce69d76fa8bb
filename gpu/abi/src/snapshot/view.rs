//! An arena as a reader sees it: checked once, walked in place.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{
    ALIGNMENT, FILE_LENGTH, File, HASH_FNV1A_MIXED, HEADER_LENGTH, Header, INDEX_BITS_MAX, MAGIC, PathHash,
    VERSION,
};
use crate::extents::{self, Entry};

/// Why bytes are no arena of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewError {
    /// Shorter than a header, or than the header says.
    Truncated,
    /// Another magic.
    NotASnapshot,
    /// A version that this library does not know.
    Version(u16),
    /// The header contradicts itself.
    Header(&'static str),
    /// The file at this place of the table contradicts itself or its neighbours.
    File {
        /// Its place.
        place: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl core::fmt::Display for ViewError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("the snapshot is cut short"),
            Self::NotASnapshot => f.write_str("this is no homi.snapshot arena"),
            Self::Version(version) => {
                write!(f, "homi.snapshot version {version} is not known, only {VERSION}")
            }
            Self::Header(problem) => write!(f, "damaged homi.snapshot arena: {problem}"),
            Self::File { place, problem } => {
                write!(f, "damaged homi.snapshot arena: file {place}: {problem}")
            }
        }
    }
}

impl core::error::Error for ViewError {}

/// An arena in memory that does not change (a memfd that is sealed against writing).
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    arena: &'a [u8],
    header: &'a Header,
    files: &'a [File],
    index: &'a [U32],
    extents: &'a [Entry],
}

impl<'a> View<'a> {
    /// Looks at everything in the arena once: after that each file, path and extent that it names is there. `bytes` may
    /// be longer than the arena, as a mapping is. Takes some 50 ns for each file.
    ///
    /// Only whether a stored hash is that of its path is not looked at; one that is not merely hides its file.
    ///
    /// # Errors
    /// Where the bytes are no arena of version 1, or contradict themselves.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ViewError> {
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| ViewError::Truncated)?;
        if header.magic != MAGIC {
            return Err(ViewError::NotASnapshot);
        }
        if header.version.get() != VERSION {
            return Err(ViewError::Version(header.version.get()));
        }
        let lengths = (header.header_length.get(), header.file_length.get(), header.extent_length.get());
        if lengths != (HEADER_LENGTH, FILE_LENGTH, extents::ENTRY_LENGTH) {
            return Err(ViewError::Header("sizes of version 1 are others"));
        }
        if header.hash.get() != HASH_FNV1A_MIXED {
            return Err(ViewError::Header("the hash is not known"));
        }
        if !header.block_size.get().is_power_of_two() || header.block_size.get() < 512 {
            return Err(ViewError::Header("no such block size"));
        }
        let bits = header.index_bits.get();
        if !(1..=INDEX_BITS_MAX).contains(&bits) {
            return Err(ViewError::Header("no such index"));
        }
        let length = usize::try_from(header.length.get()).map_err(|_| ViewError::Truncated)?;
        let arena = bytes.get(..length).ok_or(ViewError::Truncated)?;

        let mut sections = Sections { arena, end: u64::from(HEADER_LENGTH) };
        let files = sections.take(header.files_at.get(), header.files.get())?;
        let index: &[U32] = sections.take(header.index_at.get(), (1 << bits) + 1)?;
        let extents = sections.take(header.extents_at.get(), header.extents.get())?;
        let _: &[u8] = sections.take(header.strings_at.get(), header.strings.get())?;
        let view = Self { arena, header, files, index, extents };
        view.check_files()?;
        view.check_index()?;
        Ok(view)
    }

    fn check_files(&self) -> Result<(), ViewError> {
        let header = self.header;
        let root = self.string(header.root_at.get(), header.root_length.get());
        if root.is_none_or(|root| root.first() != Some(&b'/')) {
            return Err(ViewError::Header("the root's path is not there"));
        }
        let (mut block, mut bytes, mut flags) = (0_u64, 0_u64, 0_u32);
        let mut before: Option<(u64, &[u8])> = None;
        for (place, file) in self.files.iter().enumerate() {
            let wrong = |problem| ViewError::File { place, problem };
            let path = self.string(file.path_at.get(), file.path_length.get());
            let path = path.filter(|path| !path.is_empty()).ok_or(wrong("its path is not there"))?;
            let key = (file.hash.get(), path);
            if before.is_some_and(|before| before >= key) {
                return Err(wrong("it is out of order"));
            }
            before = Some(key);
            if file.first_block.get() != block {
                return Err(wrong("it does not begin where the one before ends"));
            }
            let of_file = self.blocks(file);
            block = block.checked_add(of_file).ok_or(wrong("all are too large"))?;
            bytes = bytes.checked_add(file.size.get()).ok_or(wrong("all are too large"))?;
            self.check_extents(file, of_file).map_err(wrong)?;
            flags |= file.flags.get();
        }
        if (block, bytes, flags) != (header.blocks.get(), header.bytes.get(), header.flags.get()) {
            return Err(ViewError::Header("sums over the files are others"));
        }
        Ok(())
    }

    fn check_extents(&self, file: &File, blocks: u64) -> Result<(), &'static str> {
        let block_size = u64::from(self.header.block_size.get());
        let extents = self.extents_from(file).ok_or("its extents are not there")?;
        // Sizes near 2^64 round up past it.
        let end_of_file = blocks.saturating_mul(block_size);
        let (mut end, mut flags) = (0, 0);
        for extent in extents {
            let (logical, length) = (extent.logical.get(), extent.length.get());
            let physical = extent.physical.get();
            if length == 0 || logical < end {
                return Err("its extents are out of order");
            }
            end = logical.checked_add(length).ok_or("an extent is too long")?;
            let on_device = physical.checked_add(length);
            let on_device = on_device.and_then(|end| end.checked_add(self.header.volume_start.get()));
            if end > end_of_file || on_device.is_none() {
                return Err("an extent is too long");
            }
            let is_inline = extent.flags.get() & extents::INLINE != 0;
            if !is_inline && (logical | physical | length) & (block_size - 1) != 0 {
                return Err("an extent begins or ends within a block");
            }
            flags |= extent.flags.get();
        }
        if flags == file.flags.get() { Ok(()) } else { Err("its flags are not those of its extents") }
    }

    fn check_index(&self) -> Result<(), ViewError> {
        let shift = self.shift();
        let mut place = 0;
        for (number, first) in self.index.iter().enumerate() {
            // Each file is passed once: those that belong below this number.
            while self.files.get(place).is_some_and(|file| bucket(file.hash.get(), shift) < number) {
                place += 1;
            }
            if usize::try_from(first.get()) != Ok(place) {
                return Err(ViewError::Header("the index leads astray"));
            }
        }
        Ok(())
    }

    fn string(&self, at: u64, length: u32) -> Option<&'a [u8]> {
        let strings = self.header.strings_at.get();
        let end = at.checked_add(u64::from(length))?;
        if at < strings || end >= strings.checked_add(self.header.strings.get())? {
            return None;
        }
        let (at, end) = (usize::try_from(at).ok()?, usize::try_from(end).ok()?);
        (self.arena.get(end) == Some(&0)).then(|| self.arena.get(at..end)).flatten()
    }

    fn extents_from(&self, file: &File) -> Option<&'a [Entry]> {
        let first = usize::try_from(file.first_extent.get()).ok()?;
        let count = usize::try_from(file.extents.get()).ok()?;
        self.extents.get(first..first.checked_add(count)?)
    }

    fn shift(&self) -> u32 {
        u64::BITS - self.header.index_bits.get()
    }

    /// What the arena begins with.
    #[must_use]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    /// The arena's bytes, without what a mapping has behind it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.arena
    }

    /// The path of the snapshot's root on the volume, from `/` on.
    #[must_use]
    pub fn root_path(&self) -> &'a [u8] {
        self.string(self.header.root_at.get(), self.header.root_length.get()).unwrap_or_default()
    }

    /// All files, by hash.
    #[must_use]
    pub fn files(&self) -> &'a [File] {
        self.files
    }

    /// The place of the file with this path, relative to the root: names separated by single slashes.
    #[must_use]
    pub fn lookup(&self, path: &[u8]) -> Option<usize> {
        self.find(PathHash::of(path), path)
    }

    /// As [`lookup`](Self::lookup), where the hash is known already.
    #[must_use]
    pub fn find(&self, hash: u64, path: &[u8]) -> Option<usize> {
        let bucket = bucket(hash, self.shift());
        let first = usize::try_from(self.index.get(bucket)?.get()).ok()?;
        let end = usize::try_from(self.index.get(bucket + 1)?.get()).ok()?;
        let candidates = self.files.get(first..end)?;
        let found = candidates
            .binary_search_by(|file| file.hash.get().cmp(&hash).then_with(|| self.path(file).cmp(path)));
        found.ok().map(|within| first + within)
    }

    /// The path of a file of this snapshot, relative to the root.
    #[must_use]
    pub fn path(&self, file: &File) -> &'a [u8] {
        self.string(file.path_at.get(), file.path_length.get()).unwrap_or_default()
    }

    /// The extents of a file of this snapshot.
    #[must_use]
    pub fn extents(&self, file: &File) -> &'a [Entry] {
        self.extents_from(file).unwrap_or_default()
    }

    /// The extent of a file that holds its byte `offset`; none in a hole.
    #[must_use]
    pub fn extent_at(&self, file: &File, offset: u64) -> Option<&'a Entry> {
        let extents = self.extents(file);
        let started = extents.partition_point(|extent| extent.logical.get() <= offset);
        let extent = extents.get(started.checked_sub(1)?)?;
        (offset - extent.logical.get() < extent.length.get()).then_some(extent)
    }

    /// How many blocks a file takes in the namespace of all files.
    #[must_use]
    pub fn blocks(&self, file: &File) -> u64 {
        file.size.get().div_ceil(u64::from(self.header.block_size.get()))
    }

    /// The place of the file that a block of the namespace of all files belongs to, and the block within the file.
    #[must_use]
    pub fn at_block(&self, block: u64) -> Option<(usize, u64)> {
        // Of those that begin at one block all but the last are empty.
        let begun = self.files.partition_point(|file| file.first_block.get() <= block);
        let place = begun.checked_sub(1)?;
        let file = self.files.get(place)?;
        let within = block - file.first_block.get();
        (within < self.blocks(file)).then_some((place, within))
    }
}

fn bucket(hash: u64, shift: u32) -> usize {
    // At most 31 bits are left.
    usize::try_from(hash >> shift).unwrap_or(usize::MAX)
}

/// Takes sections out of an arena, each behind the one before.
struct Sections<'a> {
    arena: &'a [u8],
    end: u64,
}

impl<'a> Sections<'a> {
    fn take<T: FromBytes + Immutable + KnownLayout>(
        &mut self,
        at: u64,
        count: u64,
    ) -> Result<&'a [T], ViewError> {
        if !at.is_multiple_of(ALIGNMENT) || at < self.end {
            return Err(ViewError::Header("sections overlap or are not aligned"));
        }
        let each = u64::try_from(size_of::<T>()).map_err(|_| ViewError::Truncated)?;
        let length = count.checked_mul(each).ok_or(ViewError::Truncated)?;
        self.end = at.checked_add(length).ok_or(ViewError::Truncated)?;
        let (from, to) = (usize::try_from(at), usize::try_from(self.end));
        let (Ok(from), Ok(to)) = (from, to) else { return Err(ViewError::Truncated) };
        let bytes = self.arena.get(from..to).ok_or(ViewError::Truncated)?;
        <[T]>::ref_from_bytes(bytes).map_err(|_| ViewError::Truncated)
    }
}
