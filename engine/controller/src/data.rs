//! From the data pointer of a command to runs of bus addresses (Base, sections 4.3.1 and 4.3.2).

use engine_dma::{Access, Mapping, Unreachable, View, to_u64, to_usize};
use engine_nvme_spec::{DataPointer, SglDescriptor, SglKind, Sqe, Status};
use std::sync::Arc;

/// Most descriptors of one SGL, all segments together.
const MOST_DESCRIPTORS: usize = 1 << 14;
/// Descriptors that are read at a time.
const AT_ONCE: usize = 32;

/// A run of bus addresses; an address of none is a bit bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) iova: Option<u64>,
    pub(crate) length: u64,
}

/// The memory of one command: runs of bus addresses, kept from command to command so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
}

impl Runs {
    /// Finds where `length` bytes of a command's data lie, with memory pages of `page` bytes.
    ///
    /// # Errors
    /// The status that the command ends with.
    #[inline]
    pub(crate) fn resolve(
        &mut self,
        view: &mut View,
        sqe: &Sqe,
        length: u64,
        page: u64,
        to_host: bool,
    ) -> Result<(), Status> {
        self.runs.clear();
        match sqe.data() {
            Some(DataPointer::Prp(first, second)) => self.prps(view, first, second, length, page),
            Some(DataPointer::Sgl(only)) if only.identifier == SglKind::DATA_BLOCK.0 << 4 => {
                self.block(only, length)
            }
            Some(DataPointer::Sgl(descriptor)) => self.sgl(view, descriptor, length, to_host),
            None => Err(Status::INVALID_FIELD.final_()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[Run] {
        &self.runs
    }

    /// No memory at all.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// `length` bytes from bus address 0 on.
    pub(crate) fn set_contiguous(&mut self, length: u64) {
        self.runs.clear();
        self.push(Some(0), length);
    }

    /// Bytes, all together.
    #[inline]
    pub(crate) fn length(&self) -> u64 {
        match &*self.runs {
            [only] => only.length,
            runs => runs.iter().map(|run| run.length).sum(),
        }
    }

    /// As [`push`](Self::push), where there is none before it.
    #[inline]
    fn push_first(&mut self, iova: u64, length: u64) {
        if length > 0 {
            self.runs.push(Run { iova: Some(iova), length });
        }
    }

    #[inline]
    fn push(&mut self, iova: Option<u64>, length: u64) {
        if length == 0 {
            return;
        }
        if let Some(last) = self.runs.last_mut() {
            let follows = match (last.iova, iova) {
                (Some(start), Some(next)) => start.checked_add(last.length) == Some(next),
                (None, None) => true,
                _ => false,
            };
            if follows {
                last.length += length;
                return;
            }
        }
        self.runs.push(Run { iova, length });
    }

    #[inline]
    fn prps(
        &mut self,
        view: &mut View,
        first: u64,
        second: u64,
        length: u64,
        page: u64,
    ) -> Result<(), Status> {
        let misplaced = Status::PRP_OFFSET_INVALID.final_();
        if !first.is_multiple_of(4) {
            return Err(misplaced);
        }
        // Pages are powers of two, and every command comes by here.
        let within = page - 1;
        let part = (page - (first & within)).min(length);
        self.push_first(first, part);
        let left = length - part;
        if left == 0 {
            return Ok(());
        }
        if left <= page {
            if second & within != 0 {
                return Err(misplaced);
            }
            self.push(Some(second), left);
            return Ok(());
        }
        self.lists(view, second, left, page)
    }

    /// Each list goes to the end of its page, where its last place leads on to the next.
    #[inline(never)]
    fn lists(&mut self, view: &mut View, list: u64, left: u64, page: u64) -> Result<(), Status> {
        let misplaced = Status::PRP_OFFSET_INVALID.final_();
        let within = page - 1;
        let (mut list, mut left) = (list, left);
        let mut entries = [0_u8; 512];
        while left > 0 {
            if !list.is_multiple_of(8) {
                return Err(misplaced);
            }
            let mut room = (page - (list & within)) / 8;
            let mut at = list;
            let needed = left.div_ceil(page);
            let leads_on = needed > room;
            while room > 0 && left > 0 {
                let wanted = if leads_on { room } else { left.div_ceil(page).min(room) };
                let count = to_usize(wanted).min(entries.len() / 8);
                let bytes = entries.get_mut(..count * 8).unwrap_or_default();
                view.read(at, bytes).map_err(transfer_error)?;
                for entry in bytes.as_chunks::<8>().0 {
                    let entry = u64::from_le_bytes(*entry);
                    room -= 1;
                    // Lists after the first start at a page too, so each but the first fills one and the chain ends.
                    if entry & within != 0 {
                        return Err(misplaced);
                    }
                    if leads_on && room == 0 {
                        list = entry;
                        break;
                    }
                    let part = left.min(page);
                    self.push(Some(entry), part);
                    left -= part;
                }
                at = at.checked_add(to_u64(count) * 8).ok_or(misplaced)?;
            }
        }
        Ok(())
    }

    /// An SGL of one data block, as most are.
    #[inline]
    fn block(&mut self, only: SglDescriptor, length: u64) -> Result<(), Status> {
        if u64::from(only.length) != length {
            return Err(Status::SGL_LENGTH_INVALID.final_());
        }
        only.address.checked_add(length).ok_or(Status::DATA_TRANSFER_ERROR)?;
        self.push_first(only.address, length);
        Ok(())
    }

    #[inline(never)]
    fn sgl(
        &mut self,
        view: &mut View,
        first: SglDescriptor,
        length: u64,
        to_host: bool,
    ) -> Result<(), Status> {
        let mut found = 0;
        match self.describe(first, to_host, &mut found)? {
            None => {}
            Some(mut segment) => {
                let mut seen = 0;
                loop {
                    let last = segment.kind() == SglKind::LAST_SEGMENT;
                    let count = to_usize(u64::from(segment.length / SglDescriptor::SIZE));
                    if count == 0 || !segment.length.is_multiple_of(SglDescriptor::SIZE) {
                        return Err(Status::INVALID_SGL_SEGMENT.final_());
                    }
                    seen += count;
                    if seen > MOST_DESCRIPTORS {
                        return Err(Status::INVALID_SGL_COUNT.final_());
                    }
                    match self.segment(view, segment, count, to_host, &mut found)? {
                        None => break,
                        Some(_) if last => return Err(Status::INVALID_SGL_SEGMENT.final_()),
                        Some(next) => segment = next,
                    }
                }
            }
        }
        if found == length { Ok(()) } else { Err(Status::SGL_LENGTH_INVALID.final_()) }
    }

    /// Takes in a segment; the segment that follows it, which only its last descriptor may name.
    fn segment(
        &mut self,
        view: &mut View,
        segment: SglDescriptor,
        count: usize,
        to_host: bool,
        found: &mut u64,
    ) -> Result<Option<SglDescriptor>, Status> {
        let mut bytes = [0_u8; AT_ONCE * 16];
        let mut done = 0;
        while done < count {
            let part = (count - done).min(AT_ONCE);
            let bytes = bytes.get_mut(..part * 16).unwrap_or_default();
            let at =
                segment.address.checked_add(to_u64(done) * 16).ok_or(Status::INVALID_SGL_SEGMENT.final_())?;
            view.read(at, bytes).map_err(transfer_error)?;
            for (place, words) in bytes.as_chunks::<16>().0.iter().enumerate() {
                let (low, high) = words.split_at(8);
                let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
                let descriptor = SglDescriptor::from_words([word(low), word(high)]);
                if let Some(next) = self.describe(descriptor, to_host, found)? {
                    let is_last = done + place + 1 == count;
                    return if is_last { Ok(Some(next)) } else { Err(Status::INVALID_SGL_SEGMENT.final_()) };
                }
            }
            done += part;
        }
        Ok(None)
    }

    /// Takes in one descriptor, or hands it back where it leads to a segment.
    fn describe(
        &mut self,
        descriptor: SglDescriptor,
        to_host: bool,
        found: &mut u64,
    ) -> Result<Option<SglDescriptor>, Status> {
        if descriptor.subtype() != 0 {
            return Err(Status::SGL_TYPE_INVALID.final_());
        }
        let length = u64::from(descriptor.length);
        match descriptor.kind() {
            SglKind::DATA_BLOCK => {
                descriptor.address.checked_add(length).ok_or(Status::DATA_TRANSFER_ERROR)?;
                self.push(Some(descriptor.address), length);
                *found += length;
                Ok(None)
            }
            // For data to the controller a bit bucket has no length (Base, section 4.3.2.1).
            SglKind::BIT_BUCKET => {
                if to_host {
                    self.push(None, length);
                    *found += length;
                }
                Ok(None)
            }
            SglKind::SEGMENT | SglKind::LAST_SEGMENT => Ok(Some(descriptor)),
            _ => Err(Status::SGL_TYPE_INVALID.final_()),
        }
    }
}

/// The memory that a command moves bytes to or from.
#[derive(Debug)]
pub struct Memory<'a> {
    view: &'a mut View,
    runs: &'a [Run],
}

impl<'a> Memory<'a> {
    pub(crate) fn new(view: &'a mut View, runs: &'a Runs) -> Self {
        Self { view, runs: runs.as_slice() }
    }

    /// Gives each contiguous piece in order: the mapping and offset in its region (none where the bytes are not
    /// wanted), and its length. What is given was checked for `access`; `take` sees nothing after a piece that cannot be
    /// reached.
    ///
    /// # Errors
    /// Data Transfer Error where some of it cannot be reached, or what `take` answers.
    pub fn pieces(
        &mut self,
        access: Access,
        mut take: impl FnMut(Option<(&Arc<Mapping>, usize)>, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        for run in self.runs {
            let Some(start) = run.iova else {
                take(None, to_usize(run.length))?;
                continue;
            };
            let mut done = 0;
            while done < run.length {
                let span = self.view.span(start + done, to_usize(run.length - done), access);
                let span = span.map_err(transfer_error)?;
                take(Some((span.mapping, span.offset)), span.length)?;
                done += to_u64(span.length);
            }
        }
        Ok(())
    }

    /// Whether all of it can be reached.
    ///
    /// # Errors
    /// Data Transfer Error where it cannot.
    pub fn check(&mut self, access: Access) -> Result<(), Status> {
        self.pieces(access, |_, _| Ok(()))
    }

    /// Copies bytes to it, as many as there are.
    ///
    /// # Errors
    /// Data Transfer Error where some of it cannot be reached.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let mut rest = bytes;
        self.pieces(Access::ReadWrite, |place, length| {
            let (part, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = later;
            let Some((mapping, offset)) = place else { return Ok(()) };
            mapping.region().write(offset, part).map_err(|_| Status::DATA_TRANSFER_ERROR)
        })
    }

    /// Copies bytes from it, as many as there is room for.
    ///
    /// # Errors
    /// Data Transfer Error where some of it cannot be reached.
    pub fn read(&mut self, target: &mut [u8]) -> Result<(), Status> {
        let mut done = 0;
        self.pieces(Access::Read, |place, length| {
            let end = (done + length).min(target.len());
            let part = target.get_mut(done..end).unwrap_or_default();
            done = end;
            let Some((mapping, offset)) = place else { return Ok(()) };
            mapping.region().read(offset, part).map_err(|_| Status::DATA_TRANSFER_ERROR)
        })
    }
}

fn transfer_error(_: Unreachable) -> Status {
    Status::DATA_TRANSFER_ERROR
}
