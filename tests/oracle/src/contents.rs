//! Checksums of what a file holds.

use std::collections::BTreeMap;

/// What one checksum covers. A piece that is all zeros has none, so that a hole and written zeros look alike here;
/// the map and `SEEK_DATA` tell those apart.
pub(crate) const PIECE: u64 = 64 << 10;

/// Files up to this size are read whole, so that holes are seen to be zeros.
const READ_WHOLE: u64 = 64 << 20;

/// Checksums of a file of `size` bytes, `data` being where it has any. Of large holes only both ends are read.
pub(crate) fn digests<E>(
    size: u64,
    data: &[(u64, u64)],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<BTreeMap<u64, u32>, E> {
    let mut digests = BTreeMap::new();
    let mut buffer = vec![0; usize::try_from(PIECE).unwrap_or_default()];
    let mut look = |at: u64| {
        let length = PIECE.min(size - at);
        let piece = &mut buffer[..usize::try_from(length).unwrap_or_default()];
        piece.fill(0xEE);
        read(at, piece)?;
        if piece.iter().any(|&byte| byte != 0) {
            digests.insert(at, crc32c::crc32c(piece));
        }
        Ok(())
    };
    let mut next = 0;
    for (start, end) in places(size, data) {
        let start = (start / PIECE * PIECE).max(next);
        for at in (start..end.min(size)).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
            look(at)?;
            next = at + PIECE;
        }
    }
    Ok(digests)
}

/// The ranges to read, in order; they may overlap.
fn places(size: u64, data: &[(u64, u64)]) -> Vec<(u64, u64)> {
    if size <= READ_WHOLE {
        return vec![(0, size)];
    }
    let mut places = vec![(0, 1)];
    let mut before = 0;
    for &(start, end) in data {
        if start > before {
            places.extend([(before, before + 1), (start - 1, start)]);
        }
        places.push((start, end));
        before = end;
    }
    if before < size {
        places.extend([(before, before + 1), (size - 1, size)]);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_sparse_giant_reads_data_and_the_ends_of_holes_only() {
        let size = 1 << 44;
        let mut seen = Vec::new();
        let data = [(1 << 40, (1 << 40) + 10)];
        let digests = digests(size, &data, |at, piece| {
            seen.push(at);
            piece.fill(u8::from(at == 1 << 40));
            Ok::<_, ()>(())
        });
        assert_eq!(seen, [0, (1 << 40) - PIECE, 1 << 40, size - PIECE]);
        assert_eq!(digests.unwrap().into_keys().collect::<Vec<_>>(), [1 << 40]);
    }

    #[test]
    fn digests_one_byte_of_a_hole_not_zero_is_noticed() {
        let whole = digests(200_000, &[], |_, piece| {
            piece.fill(0);
            piece[100] = 1;
            Ok::<_, ()>(())
        });
        assert_eq!(whole.unwrap().len(), 4);
    }
}
