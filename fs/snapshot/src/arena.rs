//! From what a walk found to the arena.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use extents_core::{Metadata, to_u64, to_usize};
use homi_abi::extents::{ENTRY_LENGTH, Entry};
use homi_abi::snapshot::{
    ALIGNMENT, FILE_LENGTH, File, HASH_FNV1A_MIXED, HEADER_LENGTH, Header, INDEX_BITS_MAX, MAGIC, VERSION,
};
use zerocopy::IntoBytes as _;

use crate::collect::Collected;
use crate::walk::{Counts, Request};

/// A snapshot that was taken and is not yet written.
#[derive(Debug)]
pub struct Snapshot {
    header: Header,
    collected: Collected,
    counts: Counts,
}

impl Snapshot {
    pub(crate) fn of(
        mut collected: Collected,
        mut counts: Counts,
        root: &Metadata,
        request: &Request<'_>,
    ) -> Self {
        sort(&mut collected);
        let repeated = drop_repeated(&mut collected);
        counts.files -= repeated;
        counts.unreadable += repeated;

        let info = request.fs.info();
        let index_bits = index_bits(collected.files.len());
        let mut sections = Sections { end: u64::from(HEADER_LENGTH) };
        let files_at = sections.place(size_of::<File>(), to_u64(collected.files.len()));
        let index_at = sections.place(size_of::<u32>(), (1 << index_bits) + 1);
        let extents_at = sections.place(size_of::<Entry>(), to_u64(collected.extents.len()));
        let strings_at = sections.place(1, to_u64(collected.strings.len()));
        let sums = lay_out(&mut collected.files, strings_at, info.block_size);
        let taken = request.taken.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            header_length: HEADER_LENGTH.into(),
            file_length: FILE_LENGTH.into(),
            extent_length: ENTRY_LENGTH.into(),
            flags: sums.flags.into(),
            block_size: info.block_size.into(),
            length: sections.end.into(),
            volume_start: request.volume_start.into(),
            volume_uuid: info.uuid,
            taken: taken.into(),
            files: to_u64(collected.files.len()).into(),
            files_at: files_at.into(),
            index_bits: index_bits.into(),
            hash: HASH_FNV1A_MIXED.into(),
            index_at: index_at.into(),
            extents: to_u64(collected.extents.len()).into(),
            extents_at: extents_at.into(),
            strings: to_u64(collected.strings.len()).into(),
            strings_at: strings_at.into(),
            blocks: sums.blocks.into(),
            bytes: sums.bytes.into(),
            root_inode: root.ino.0.into(),
            root_at: strings_at.into(),
            root_length: u32::try_from(request.root_path.len()).unwrap_or(u32::MAX).into(),
            root_generation: root.generation.into(),
            directories: counts.directories.into(),
            links: counts.links.into(),
            specials: counts.specials.into(),
            denied: counts.denied.into(),
            unreadable: counts.unreadable.into(),
            reserved: [0.into(); 6],
        };
        Self { header, collected, counts }
    }

    /// What the walk came by.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the arena begins with.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table of files, as it will stand in the arena.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.collected.files
    }

    /// The table of extents, as it will stand in the arena.
    #[must_use]
    pub fn extents(&self) -> &[Entry] {
        &self.collected.extents
    }

    /// Bytes of the arena.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.header.length.get()
    }

    /// Writes the arena from its start to its end, freeing what is written. Writes are small to large: let the sink
    /// buffer, or be a file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn write_to(self, sink: &mut dyn Write) -> io::Result<()> {
        let Self { header, collected: Collected { files, extents, strings, .. }, .. } = self;
        let mut out = Out { sink, at: 0 };
        out.write(header.as_bytes())?;
        out.pad_to(header.files_at.get())?;
        out.write(files.as_bytes())?;
        out.pad_to(header.index_at.get())?;
        out.index(&files, header.index_bits.get())?;
        drop(files);
        out.pad_to(header.extents_at.get())?;
        out.write(extents.as_bytes())?;
        drop(extents);
        out.pad_to(header.strings_at.get())?;
        out.write(&strings)
    }
}

/// Sorts the files by hash, those of one hash by path.
fn sort(collected: &mut Collected) {
    let Collected { files, strings, .. } = collected;
    files.sort_unstable_by(|one, other| {
        one.hash.get().cmp(&other.hash.get()).then_with(|| path(strings, one).cmp(path(strings, other)))
    });
}

/// A damaged directory may have a name twice; the first one counts. How many others there were.
fn drop_repeated(collected: &mut Collected) -> u64 {
    let Collected { files, strings, .. } = collected;
    let before = files.len();
    files.dedup_by(|later, earlier| {
        later.hash == earlier.hash && path(strings, later).cmp(path(strings, earlier)) == Ordering::Equal
    });
    to_u64(before - files.len())
}

/// The path of a file whose place still counts from the start of the strings.
fn path<'a>(strings: &'a [u8], file: &File) -> &'a [u8] {
    let at = to_usize(file.path_at.get());
    let length = to_usize(u64::from(file.path_length.get()));
    strings.get(at..at + length).unwrap_or_default()
}

/// About one file for each number of the index.
fn index_bits(files: usize) -> u32 {
    files.next_power_of_two().trailing_zeros().clamp(1, INDEX_BITS_MAX)
}

struct Sums {
    blocks: u64,
    bytes: u64,
    flags: u32,
}

/// Gives each file its place in the namespace of all, and its path's place in the arena.
fn lay_out(files: &mut [File], strings_at: u64, block_size: u32) -> Sums {
    let mut sums = Sums { blocks: 0, bytes: 0, flags: 0 };
    for file in files {
        file.path_at = (file.path_at.get() + strings_at).into();
        file.first_block = sums.blocks.into();
        sums.blocks += file.size.get().div_ceil(u64::from(block_size));
        sums.bytes += file.size.get();
        sums.flags |= file.flags.get();
    }
    sums
}

struct Sections {
    end: u64,
}

impl Sections {
    fn place(&mut self, each: usize, count: u64) -> u64 {
        // All of it lies in memory, so nothing here overflows.
        let at = self.end.next_multiple_of(ALIGNMENT);
        self.end = at + to_u64(each) * count;
        at
    }
}

/// A sink that knows how far it is.
struct Out<'a> {
    sink: &'a mut dyn Write,
    at: u64,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.at += to_u64(bytes.len());
        Ok(())
    }

    fn pad_to(&mut self, place: u64) -> io::Result<()> {
        const ZEROS: [u8; 128] = [0; 128];
        let missing = ZEROS.get(..to_usize(place - self.at)).unwrap_or(&ZEROS);
        self.write(missing)
    }

    fn index(&mut self, files: &[File], bits: u32) -> io::Result<()> {
        const PIECE: usize = 4096;
        let shift = u64::BITS - bits;
        let (mut place, mut piece) = (0_u32, Vec::with_capacity(PIECE));
        let mut rest = files.iter().map(|file| file.hash.get() >> shift).peekable();
        for number in 0..=(1_u64 << bits) {
            while rest.next_if(|&bucket| bucket < number).is_some() {
                place += 1;
            }
            piece.extend_from_slice(&place.to_le_bytes());
            if piece.len() == PIECE {
                self.write(&piece)?;
                piece.clear();
            }
        }
        self.write(&piece)
    }
}
