//! Fields within numbers.

/// Cuts an integer down to what the target holds; for fields that were masked to fit before.
macro_rules! narrow {
    ($name:ident, $from:ty, $to:ty) => {
        #[allow(clippy::as_conversions, reason = "cutting off the upper bits is what it is for")]
        pub(crate) const fn $name(n: $from) -> $to {
            n as $to
        }
    };
}

narrow!(low_u8, u64, u8);
narrow!(low_u16, u64, u16);
narrow!(low_u32, u64, u32);

/// `count` bits of `word` from bit `first` on.
pub(crate) const fn field(word: u64, first: u32, count: u32) -> u64 {
    (word >> first) & mask(count)
}

/// `word` with `count` bits from `first` on replaced by the low bits of `value`.
pub(crate) const fn with_field(word: u64, first: u32, count: u32, value: u64) -> u64 {
    (word & !(mask(count) << first)) | ((value & mask(count)) << first)
}

const fn mask(count: u32) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
