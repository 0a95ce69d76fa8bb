//! Times of an inode, in the classic form and as `bigtime` has them.

use extents_core::Timestamp;
use zerocopy::byteorder::big_endian::U64;

const NANOSECONDS: u64 = 1_000_000_000;
/// Times with `bigtime` begin where 32-bit ones do (`XFS_BIGTIME_EPOCH_OFFSET`).
const BIGTIME_EPOCH: i64 = 1 << 31;

/// A time as stored (`xfs_timestamp_t`): nanoseconds since December 1901 with `bigtime`, otherwise signed 32-bit
/// seconds and nanoseconds.
pub(crate) fn decode(stored: U64, bigtime: bool) -> Timestamp {
    if bigtime {
        let stored = stored.get();
        let seconds = i64::try_from(stored / NANOSECONDS).unwrap_or(i64::MAX);
        let nanoseconds = u32::try_from(stored % NANOSECONDS).unwrap_or_default();
        return Timestamp { seconds: seconds - BIGTIME_EPOCH, nanoseconds };
    }
    let [s0, s1, s2, s3, n0, n1, n2, n3] = stored.to_bytes();
    Timestamp {
        seconds: i64::from(i32::from_be_bytes([s0, s1, s2, s3])),
        // The kernel passes on what is stored; a caller here may rely on less than a second.
        nanoseconds: u32::from_be_bytes([n0, n1, n2, n3]).min(999_999_999),
    }
}
