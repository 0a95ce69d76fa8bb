//! Naming memory by Physical Region Pages, for a daemon that knows no SGLs (Base, section 4.3.1).
//!
//! Registered memory is contiguous on the bus, so its lists are written once, and a command only points to the place in
//! them where its second page stands. A list ends where its own page does, so each page of lists repeats the second half of
//! the one before: a command of up to [`LONGEST`] bytes finds all its pages within one.

use std::sync::atomic::Ordering;

use crate::ClientError;
use crate::session::{Buffer, Session};

const PAGE: u64 = 4096;
/// Entries that a page of lists has.
const ENTRIES: u64 = PAGE / 8;
/// By how many entries each page of lists is ahead of the one before.
const STEP: u64 = ENTRIES / 2;
/// Longest command in bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// How commands of a queue pair name memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By one SGL data block descriptor each.
    Sgl,
    /// By two PRP entries each, with lists of the memory that begins at `memory`.
    Prp {
        /// The address of the memory's first byte.
        memory: u64,
        /// That of its lists.
        lists: u64,
    },
}

impl Naming {
    /// The two words that name `length` bytes from address `iova` on.
    pub(crate) fn words(self, iova: u64, length: u32) -> (u64, u64) {
        let Self::Prp { memory, lists } = self else { return (iova, length.into()) };
        let part = PAGE - iova % PAGE;
        let Some(left) = u64::from(length).checked_sub(part).filter(|&left| left > 0) else {
            return (iova, 0);
        };
        let second = iova.wrapping_sub(memory) / PAGE + 1;
        if left <= PAGE {
            return (iova, memory + second * PAGE);
        }
        (iova, lists + second / STEP * PAGE + second % STEP * 8)
    }
}

/// New memory of `length` bytes for data, and how commands name it.
///
/// # Errors
/// As [`Session::buffer`].
pub(crate) fn memory(
    session: &Session,
    length: usize,
    by_prp: bool,
) -> Result<(Buffer, Naming), ClientError> {
    if !by_prp {
        return Ok((session.buffer(length)?, Naming::Sgl));
    }
    let bytes = u64::try_from(length).unwrap_or(u64::MAX).next_multiple_of(PAGE);
    let pages_of_lists = bytes / PAGE / STEP + 1;
    let all = usize::try_from(bytes + pages_of_lists * PAGE).unwrap_or(usize::MAX);
    let buffer = session.buffer(all)?;
    let iova = buffer.iova();
    if !iova.is_multiple_of(PAGE) {
        return Err(ClientError::Protocol("memory that begins within a page".into()));
    }
    let at = usize::try_from(bytes).unwrap_or(usize::MAX);
    let count = pages_of_lists * ENTRIES;
    let words = buffer.memory().u64s_at(at, usize::try_from(count).unwrap_or(usize::MAX));
    for (word, number) in words.iter().zip(0_u64..) {
        let page = number / ENTRIES * STEP + number % ENTRIES;
        word.store((iova + page * PAGE).to_le(), Ordering::Relaxed);
    }
    Ok((buffer, Naming::Prp { memory: iova, lists: iova + bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_lead_to_its_pages() {
        let naming = Naming::Prp { memory: 0x10_0000, lists: 0x90_0000 };
        let at = |offset: u64, length| naming.words(0x10_0000 + offset, length);
        assert_eq!(at(512, 3584), (0x10_0200, 0), "one page");
        assert_eq!(at(512, 4096), (0x10_0200, 0x10_1000), "two pages");
        assert_eq!(at(0, 12288), (0x10_0000, 0x90_0008), "a list of the second page and the third");
        // The second page is number 256: the second page of lists begins with it.
        assert_eq!(at(255 * 4096, 1 << 20), (0x1f_f000, 0x90_1000));
        assert_eq!(Naming::Sgl.words(0x5000, 70_000), (0x5000, 70_000));
    }
}
