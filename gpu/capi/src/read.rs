//! Reading into the caller's memory.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use homi_client::{ClientError, ServedRequest, Target};

use crate::boundary::{Failure, check, seen};
use crate::error;
use crate::file::File;
use crate::session::Session;

record! {
    /// A range of a file, where it goes, and what came of it.
    Range = "homifs_range" {
        /// The file, of the session that reads.
        file: *const File,
        /// First byte in the file.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Where they go.
        target: *mut c_void,
        /// Set by the call: how many bytes there were, fewer than asked for only at the file's end; or an errno with a
        /// minus sign.
        result: i64,
        /// Set by the call: as homifs_error.nvme_status.
        nvme_status: u32,
        /// 0.
        reserved: u32,
    }
}

/// Memory that the caller gave.
///
/// # Safety
/// `length` bytes must be writable there for as long as `'a`, and nobody else's.
pub(crate) unsafe fn target<'a>(start: *mut c_void, length: u64) -> Result<Target<'a>, Failure> {
    let bytes = isize::try_from(length)
        .map_err(|_| Failure::invalid(format!("no memory has {length} bytes")))?
        .unsigned_abs();
    if bytes > 0 {
        check(start.cast_const(), "target")?;
        if start.addr().checked_add(bytes).is_none() {
            return Err(Failure::invalid("target reaches past the end of all memory"));
        }
    }
    // SAFETY: The caller's promise.
    Ok(unsafe { Target::from_raw(start.cast(), bytes) })
}

functions! {
    /// Reads `length` bytes from byte `offset` of a file on into the caller's memory; any offset and length will do. How
    /// many bytes there were, fewer than asked for only at the file's end; or an errno with a minus sign, and what the
    /// target holds then is not said. Waits until it is done; threads may call it at the same time.
    fn homifs_read(file: *const File, target: *mut c_void, length: u64, offset: u64) -> i64 {
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(file, "file") }?;
        // SAFETY: The caller gives `length` bytes of memory, as the header says.
        let target = unsafe { self::target(target, length) }?;
        let read = file.client.read(&file.file, offset, target)?;
        Ok(i64::try_from(read).unwrap_or(i64::MAX))
    }

    /// Reads many ranges at once; queues are told of as many commands as they have room for together. No two targets may
    /// overlap. 0 where each range went well, else the errno of the first that did not, with a minus sign; each range has
    /// its own result. Where the ranges themselves cannot be (a null file, a null target), none is read.
    fn homifs_read_many(session: *const Session, ranges: *mut Range, count: u64) -> c_int {
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        // SAFETY: The caller gives `count` ranges that nobody else uses during the call.
        let ranges = unsafe { several(ranges, count) }?;
        read_many(session, ranges)
    }
}

/// The ranges that the caller gave.
///
/// # Safety
/// There must be `count` of them, which nobody else uses for as long as `'a`.
pub(crate) unsafe fn several<'a, T>(ranges: *mut T, count: u64) -> Result<&'a mut [T], Failure> {
    let count = usize::try_from(count).ok().filter(|count| {
        count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok())
    });
    let count = count.ok_or_else(|| Failure::invalid("no memory has as many ranges"))?;
    if count == 0 {
        return Ok(&mut []);
    }
    check(ranges, "ranges")?;
    // SAFETY: The caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(ranges, count) })
}

/// What a range is told of what became of it: the result, and the NVMe status.
pub(crate) type Told<'a> = (&'a mut i64, &'a mut u32);

/// Tells each range what became of it; what the call as a whole answers.
pub(crate) fn tell<'a>(
    results: impl IntoIterator<Item = Result<usize, ClientError>>,
    ranges: impl IntoIterator<Item = Told<'a>>,
) -> c_int {
    let mut first = 0;
    for ((result, status), outcome) in ranges.into_iter().zip(results) {
        *status = 0;
        match outcome {
            Ok(length) => *result = i64::try_from(length).unwrap_or(i64::MAX),
            Err(error) => {
                let failure = Failure::from(error);
                *result = i64::from(-failure.errno);
                *status = failure.status.into();
                if first == 0 {
                    first = -failure.errno;
                    error::keep(&failure);
                }
            }
        }
    }
    first
}

fn read_many(session: &Session, ranges: &mut [Range]) -> Result<c_int, Failure> {
    let mut requests = Vec::with_capacity(ranges.len());
    for (number, range) in ranges.iter().enumerate() {
        let of_range =
            |failure: Failure| Failure { text: format!("range {number}: {}", failure.text), ..failure };
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(range.file, "file") }.map_err(of_range)?;
        if !Arc::ptr_eq(&file.client, &session.client) {
            return Err(of_range(Failure::invalid("its file belongs to another session")));
        }
        // SAFETY: The caller gives as much memory, and no two ranges the same.
        let target = unsafe { target(range.target, range.length) }.map_err(of_range)?;
        requests.push(ServedRequest { file: &file.file, offset: range.offset, target });
    }
    let results = session.client.read_many(&mut requests);
    Ok(tell(results, ranges.iter_mut().map(|range| (&mut range.result, &mut range.nvme_status))))
}
