//! Between lengths in memory and lengths on devices.

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "the engine runs on 64-bit machines only");

/// Widens a length to 64 bits; lossless, since `usize` has 64 bits here.
#[must_use]
#[allow(clippy::as_conversions, reason = "asserted above to be lossless; usize has no From into u64")]
pub const fn to_u64(n: usize) -> u64 {
    n as u64
}

/// Takes a 64-bit number as a length; lossless, since `usize` has 64 bits here.
#[must_use]
#[allow(clippy::as_conversions, reason = "asserted above to be lossless; usize has no From<u64>")]
pub const fn to_usize(n: u64) -> usize {
    n as usize
}
