//! Looks at bytes from the volume as the structures they hold.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A structure that may be read from any bytes at any address.
pub(crate) trait Layout: FromBytes + KnownLayout + Immutable + Unaligned {}

impl<T: FromBytes + KnownLayout + Immutable + Unaligned> Layout for T {}

/// The structure at byte `at`; `None` where it does not fit.
pub(crate) fn view<T: Layout>(bytes: &[u8], at: usize) -> Option<&T> {
    T::ref_from_prefix(bytes.get(at..)?).ok().map(|(found, _)| found)
}

/// `count` structures from byte `at` on; `None` where they do not fit.
pub(crate) fn views<T: Layout>(bytes: &[u8], at: usize, count: usize) -> Option<&[T]> {
    <[T]>::ref_from_prefix_with_elems(bytes.get(at..)?, count).ok().map(|(found, _)| found)
}
