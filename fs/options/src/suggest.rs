//! The name that was perhaps meant.

/// The candidate that is fewest edits away from `given`, if that is few enough to be a slip.
pub(crate) fn nearest(given: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Longer than any name we have with all the slips we forgive: not worth measuring.
    if given.len() > 40 {
        return None;
    }
    let forgiven = (given.len() / 3).clamp(1, 3);
    let measured = candidates.map(|candidate| (distance(given.as_bytes(), candidate.as_bytes()), candidate));
    measured.filter(|(edits, _)| *edits <= forgiven).min().map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours (Damerau and Levenshtein, optimal alignment).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let differs = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_of_a_slip_is_the_name_meant() {
        let names = ["cache", "partition", "norecovery", "ro"];
        for (given, meant) in [
            ("cahce", Some("cache")),
            ("partiton", Some("partition")),
            ("no-recovery", Some("norecovery")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, names.into_iter()), meant, "{given}");
        }
    }
}
