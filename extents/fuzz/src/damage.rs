//! Changes to a volume, of the kinds that parsers trip over.

use arbitrary::Arbitrary;

use crate::device::{CHUNK, Device};

/// A place on the volume: a chunk that holds something, and a byte within it.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Spot {
    chunk: u16,
    byte: u16,
}

impl Spot {
    fn offset(self, device: &Device) -> u64 {
        device.filled(self.chunk.into()) + u64::from(self.byte) % CHUNK
    }
}

/// One change.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Damage {
    Flip(Spot, u8),
    Bytes(Spot, [u8; 4]),
    /// A number that is special in some width: 0, the largest, one above or below a border.
    Number(Spot, Special, Width, bool),
    /// A little more or less than was there.
    Add(Spot, i8, Width, bool),
    Zero(Spot, u8),
    /// A chunk in the place of another: nodes that are their own children, headers that are twice there.
    Copy(u16, u16),
    /// A few bytes in the place of others: numbers of other blocks and inodes.
    Move(Spot, Spot, Width),
    Truncate(u16),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Special {
    Zero,
    One,
    Max,
    MaxLessOne,
    High,
    HighLessOne,
    Small(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Width {
    Byte,
    Two,
    Four,
    Eight,
}

impl Width {
    fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

impl Special {
    fn value(self, bits: u32) -> u64 {
        let max = u64::MAX >> (64 - bits);
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Max => max,
            Self::MaxLessOne => max - 1,
            Self::High => max ^ (max >> 1),
            Self::HighLessOne => max >> 1,
            Self::Small(number) => number.into(),
        }
    }
}

impl Damage {
    pub(crate) fn apply(&self, device: &mut Device) {
        match *self {
            Self::Flip(spot, bits) => {
                let at = spot.offset(device);
                let [byte] = device.bytes::<1>(at);
                device.write(at, &[byte ^ bits.max(1)]);
            }
            Self::Bytes(spot, bytes) => device.write(spot.offset(device), &bytes),
            Self::Number(spot, special, width, big) => {
                let bytes = u32::try_from(width.bytes()).expect("at most 8");
                put(device, spot.offset(device), special.value(8 * bytes), width, big);
            }
            Self::Add(spot, delta, width, big) => {
                let at = spot.offset(device);
                let old = get(device, at, width, big);
                put(device, at, old.wrapping_add_signed(delta.into()), width, big);
            }
            Self::Zero(spot, length) => device.write(spot.offset(device), &vec![0; length.into()]),
            Self::Copy(from, to) => {
                let bytes = device.bytes::<1024>(device.filled(from.into()));
                device.write(device.filled(to.into()), &bytes);
            }
            Self::Move(from, to, width) => {
                let value = get(device, from.offset(device), width, false);
                put(device, to.offset(device), value, width, false);
            }
            Self::Truncate(part) => device.truncate(device.len() / 0x1_0000 * u64::from(part)),
        }
    }
}

/// Numbers stand at multiples of two at least.
fn aligned(at: u64, width: Width) -> u64 {
    if matches!(width, Width::Byte) { at } else { at & !1 }
}

fn get(device: &Device, at: u64, width: Width, big: bool) -> u64 {
    let mut bytes = device.bytes::<8>(aligned(at, width));
    if big {
        bytes[..width.bytes()].reverse();
    }
    bytes[width.bytes()..].fill(0);
    u64::from_le_bytes(bytes)
}

fn put(device: &mut Device, at: u64, value: u64, width: Width, big: bool) {
    let mut bytes = value.to_le_bytes();
    if big {
        bytes[..width.bytes()].reverse();
    }
    device.write(aligned(at, width), &bytes[..width.bytes()]);
}
