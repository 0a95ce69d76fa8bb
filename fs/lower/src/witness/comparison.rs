//! What two maps of one file differ in.

use std::fmt::Write;

use extents_core::{Extent, ExtentFlags, ExtentMap};

/// Extents of a map that are shown where maps differ.
const SHOWN: usize = 8;

/// Two answers to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// What the kernel's driver says, from the first extent on that differs.
    pub(super) kernel: String,
    /// What the volume says.
    pub(super) volume: String,
}

/// What differs, if anything does. Where bytes lie within metadata only that they do is compared: each side counts in its
/// own way there. Which other files share an extent moves nothing.
pub(super) fn difference(kernel: &ExtentMap, volume: &ExtentMap) -> Option<Difference> {
    let (kernel, volume) = (places(kernel), places(volume));
    if kernel == volume {
        return None;
    }
    let same = kernel.iter().zip(&volume).take_while(|(one, other)| one == other).count();
    Some(Difference { kernel: show(&kernel, same), volume: show(&volume, same) })
}

/// The extents as far as they say where bytes lie, joined where nothing separates them.
fn places(map: &ExtentMap) -> Vec<Extent> {
    let mut places: Vec<Extent> = Vec::with_capacity(map.len());
    for extent in map.iter() {
        let extent = if extent.flags.contains(ExtentFlags::INLINE) {
            Extent { logical: 0, physical: 0, length: 1, flags: ExtentFlags::INLINE }
        } else {
            Extent { flags: extent.flags & ExtentFlags::UNWRITTEN, ..extent }
        };
        match places.last_mut() {
            Some(last) if last.flags == extent.flags && last.flags.contains(ExtentFlags::INLINE) => {}
            Some(last)
                if last.flags == extent.flags
                    && last.end() == extent.logical
                    && last.physical + last.length == extent.physical =>
            {
                last.length += extent.length;
            }
            _ => places.push(extent),
        }
    }
    places
}

fn show(places: &[Extent], from: usize) -> String {
    let mut text = String::new();
    for extent in places.iter().skip(from).take(SHOWN) {
        let Extent { logical, physical, length, flags } = extent;
        let kind = if flags.is_empty() { String::new() } else { format!(" {flags:?}") };
        let _ = write!(text, "{logical}+{length}@{physical}{kind}; ");
    }
    let rest = places.len().saturating_sub(from.saturating_add(SHOWN));
    match (text.is_empty(), rest) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => text.trim_end_matches("; ").to_owned(),
        (false, _) => format!("{text}{rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use extents_core::ExtentMapBuilder;

    use super::*;

    fn map(extents: &[(u64, u64, u64, ExtentFlags)]) -> ExtentMap {
        let mut builder = ExtentMapBuilder::new(1 << 20, 0_u32, 1 << 30);
        for &(logical, physical, length, flags) in extents {
            builder.push(Extent { logical, physical, length, flags }).unwrap();
        }
        builder.finish()
    }

    const NONE: ExtentFlags = ExtentFlags::empty();

    #[test]
    fn maps_that_only_cut_or_share_differently_agree() {
        let one = map(&[(0, 4096, 8192, NONE)]);
        let other = map(&[(0, 4096, 4096, ExtentFlags::SHARED), (4096, 8192, 4096, NONE)]);
        assert_eq!(difference(&one, &other), None);
    }

    #[test]
    fn extent_that_lies_elsewhere_is_told_with_both_answers() {
        let kernel = map(&[(0, 4096, 4096, NONE), (8192, 65536, 4096, NONE)]);
        let volume = map(&[(0, 4096, 4096, NONE), (8192, 69632, 4096, NONE)]);
        let found = difference(&kernel, &volume).unwrap();
        assert_eq!((found.kernel.as_str(), found.volume.as_str()), ("8192+4096@65536", "8192+4096@69632"));
    }

    #[test]
    fn unwritten_against_written_and_extent_against_hole_differ() {
        let written = map(&[(0, 4096, 4096, NONE)]);
        let unwritten = map(&[(0, 4096, 4096, ExtentFlags::UNWRITTEN)]);
        assert_eq!(difference(&written, &unwritten).unwrap().volume, "0+4096@4096 ExtentFlags(UNWRITTEN)");
        assert_eq!(difference(&written, &map(&[])).unwrap().volume, "nothing");
    }
}
