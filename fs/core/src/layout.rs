//! Extent maps as clients see them: binary, JSON, and one line for a person.

use std::fmt::Write;

use extents_core::{Extent, ExtentFlags, ExtentMap, Ino, to_u64};
use homi_abi::extents as abi;
use serde::Serialize;
use zerocopy::IntoBytes;

/// Longest value that the kernel carries for an extended attribute (`XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65_536;

/// What every form of a map tells about the file besides its extents.
#[derive(Debug, Clone, Copy)]
pub struct MapContext {
    /// The inode.
    pub ino: Ino,
    /// Block size of the file system in bytes.
    pub block_size: u32,
    /// Byte of the device where the volume starts.
    pub volume_start: u64,
}

fn abi_flags(flags: ExtentFlags) -> u32 {
    [
        (ExtentFlags::UNWRITTEN, abi::UNWRITTEN),
        (ExtentFlags::INLINE, abi::INLINE),
        (ExtentFlags::SHARED, abi::SHARED),
        (ExtentFlags::ENCODED, abi::ENCODED),
    ]
    .into_iter()
    .filter(|(ours, _)| flags.contains(*ours))
    .fold(0, |all, (_, theirs)| all | theirs)
}

/// The names of the flags, as JSON and tables print them.
#[must_use]
pub fn flag_names(flags: ExtentFlags) -> Vec<&'static str> {
    [
        (ExtentFlags::UNWRITTEN, "unwritten"),
        (ExtentFlags::INLINE, "inline"),
        (ExtentFlags::SHARED, "shared"),
        (ExtentFlags::ENCODED, "encoded"),
    ]
    .into_iter()
    .filter_map(|(flag, name)| flags.contains(flag).then_some(name))
    .collect()
}

/// The value of `homi.extents`: as many entries from place `first` on as an attribute can carry.
pub(crate) fn binary(map: &ExtentMap, context: MapContext, first: usize) -> Vec<u8> {
    let room = (XATTR_MAX - usize::from(abi::HEADER_LENGTH)) / usize::from(abi::ENTRY_LENGTH);
    let count = map.len().saturating_sub(first).min(room);
    let mut flags = 0;
    if first + count < map.len() {
        flags |= abi::MORE;
    }
    if map.iter().any(|extent| !extent.is_plain()) {
        flags |= abi::SPECIAL;
    }
    let header = abi::Header {
        magic: abi::MAGIC,
        version: abi::VERSION.into(),
        header_length: abi::HEADER_LENGTH.into(),
        entry_length: abi::ENTRY_LENGTH.into(),
        reserved: 0.into(),
        flags: flags.into(),
        block_size: context.block_size.into(),
        generation: map.generation().into(),
        file_size: map.size().into(),
        volume_start: context.volume_start.into(),
        total: to_u64(map.len()).into(),
        first: to_u64(first).into(),
        entries: to_u64(count).into(),
    };
    let mut bytes =
        Vec::with_capacity(usize::from(abi::HEADER_LENGTH) + count * usize::from(abi::ENTRY_LENGTH));
    bytes.extend_from_slice(header.as_bytes());
    for extent in (first..first + count).filter_map(|index| map.get(index)) {
        let entry = abi::Entry {
            logical: extent.logical.into(),
            physical: extent.physical.into(),
            length: extent.length.into(),
            flags: abi_flags(extent.flags).into(),
            reserved: 0.into(),
        };
        bytes.extend_from_slice(entry.as_bytes());
    }
    bytes
}

/// A map as JSON, version 1.
#[derive(Debug, Serialize)]
pub struct JsonMap {
    version: u32,
    ino: u64,
    generation: u64,
    block_size_bytes: u32,
    file_size_bytes: u64,
    volume_start_bytes: u64,
    total: usize,
    first: usize,
    more: bool,
    extents: Vec<JsonExtent>,
}

#[derive(Debug, Serialize)]
struct JsonExtent {
    logical_bytes: u64,
    physical_bytes: u64,
    length_bytes: u64,
    flags: Vec<&'static str>,
}

impl From<Extent> for JsonExtent {
    fn from(extent: Extent) -> Self {
        Self {
            logical_bytes: extent.logical,
            physical_bytes: extent.physical,
            length_bytes: extent.length,
            flags: flag_names(extent.flags),
        }
    }
}

impl JsonMap {
    /// At most `count` extents of a map, from place `first` on.
    #[must_use]
    pub fn new(map: &ExtentMap, context: MapContext, first: usize, count: usize) -> Self {
        let end = first.saturating_add(count).min(map.len());
        Self {
            version: 1,
            ino: context.ino.0,
            generation: map.generation(),
            block_size_bytes: context.block_size,
            file_size_bytes: map.size(),
            volume_start_bytes: context.volume_start,
            total: map.len(),
            first,
            more: end < map.len(),
            extents: (first..end).filter_map(|index| map.get(index)).map(JsonExtent::from).collect(),
        }
    }
}

/// Longest JSON of one extent: three numbers of up to 20 digits, their keys, and all flags.
pub(crate) const JSON_EXTENT_MAX: usize = 176;
/// Room for the other members of a [`JsonMap`].
pub(crate) const JSON_MAP_OVERHEAD: usize = 512;

/// The value of `homi.extents.json`.
pub(crate) fn json(map: &ExtentMap, context: MapContext, first: usize) -> Vec<u8> {
    let count = (XATTR_MAX - JSON_MAP_OVERHEAD) / JSON_EXTENT_MAX;
    // Numbers and fixed names always serialise.
    serde_json::to_vec(&JsonMap::new(map, context, first, count)).unwrap_or_default()
}

/// The value of `homi.layout`: what a person or a script wants to know at a glance.
pub(crate) fn line(map: &ExtentMap, context: MapContext, format: &str, path: &str) -> String {
    let sum = |wanted: &dyn Fn(&Extent) -> bool| -> u64 { map.iter().filter(wanted).map(|e| e.length).sum() };
    let flagged = |flag| sum(&|extent: &Extent| extent.flags.contains(flag));
    let within: u64 = map.iter().map(|e| e.end().min(map.size()).saturating_sub(e.logical)).sum();
    let mut text = String::new();
    let _ = write!(
        text,
        "format={format} block_size={} size={} extents={} data={} unwritten={} inline={} shared={} encoded={} hole={} \
         generation={} volume_start={} engine={}",
        context.block_size,
        map.size(),
        map.len(),
        sum(&Extent::is_plain),
        flagged(ExtentFlags::UNWRITTEN),
        flagged(ExtentFlags::INLINE),
        flagged(ExtentFlags::SHARED),
        flagged(ExtentFlags::ENCODED),
        map.size().saturating_sub(within),
        map.generation(),
        context.volume_start,
        path.replace(char::is_whitespace, "_"),
    );
    text
}

#[cfg(test)]
mod tests {
    use extents_core::ExtentMapBuilder;

    use super::*;

    const CONTEXT: MapContext = MapContext { ino: Ino(12), block_size: 4096, volume_start: 1 << 20 };

    fn map(extents: u64) -> ExtentMap {
        let mut builder = ExtentMapBuilder::new(extents * 8192, 7_u32, u64::MAX);
        for index in 0..extents {
            let flags = if index % 3 == 0 { ExtentFlags::UNWRITTEN } else { ExtentFlags::SHARED };
            builder
                .push(Extent {
                    logical: index * 8192,
                    physical: 1 << 50 | (index * 8192),
                    length: 4096,
                    flags,
                })
                .unwrap();
        }
        builder.finish()
    }

    #[test]
    fn binary_larger_than_an_attribute_is_given_in_parts_that_make_the_whole() {
        let map = map(5000);
        let (mut first, mut extents) = (0, Vec::new());
        loop {
            let bytes = binary(&map, CONTEXT, first);
            assert!(bytes.len() <= XATTR_MAX);
            let (header, entries) = abi::decode(&bytes).unwrap();
            assert_eq!((header.total.get(), header.first.get()), (5000, to_u64(first)));
            extents
                .extend(entries.map(|entry| (entry.logical.get(), entry.physical.get(), entry.flags.get())));
            first += usize::try_from(header.entries.get()).unwrap();
            if header.flags.get() & abi::MORE == 0 {
                break;
            }
        }
        let expected: Vec<_> = map.iter().map(|e| (e.logical, e.physical, abi_flags(e.flags))).collect();
        assert_eq!(extents, expected);
    }

    #[test]
    fn binary_past_the_end_is_an_empty_part() {
        let bytes = binary(&map(3), CONTEXT, 10);
        let (header, entries) = abi::decode(&bytes).unwrap();
        assert_eq!((header.entries.get(), header.flags.get() & abi::MORE, entries.count()), (0, 0, 0));
    }

    #[test]
    fn json_largest_map_fits_an_attribute_and_says_that_more_follows() {
        let bytes = json(&map(5000), CONTEXT, 0);
        assert!(bytes.len() <= XATTR_MAX, "{}", bytes.len());
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["more"], true);
        assert_eq!(value["total"], 5000);
    }

    #[test]
    fn line_sums_what_the_map_holds() {
        let text = line(&map(3), CONTEXT, "ext4", "io_uring on disk.img");
        assert!(text.contains("extents=3 data=8192 unwritten=4096"), "{text}");
        assert!(text.contains("hole=12288"), "{text}");
        assert!(text.ends_with("engine=io_uring_on_disk.img"), "{text}");
    }
}
