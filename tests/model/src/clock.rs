//! The time that all processes of a machine share.

use crate::register::Moment;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub(crate) fn now() -> Moment {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which is ours. It cannot fail: the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Moment::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + Moment::try_from(time.tv_nsec).unwrap_or(0)
}
