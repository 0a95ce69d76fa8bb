//! Names without regard to case (kernel: `fs/unicode`, UTF-8 encoding version 12.1).

use caseless::Caseless;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical};

use super::assigned::is_assigned;

/// What names are compared and hashed as in a casefolded directory: full case folding, canonical decomposition
/// with marks in canonical order, without the code points that are ignorable by default (the kernel's NFDICF).
///
/// `None` where the name is no UTF-8: the kernel then compares and hashes its bytes as they are, unless the
/// volume is strict, which keeps such names off it. Code points that Unicode 12.1 does not assign stand for
/// themselves.
pub(crate) fn casefold(name: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(name).ok()?;
    if text.is_ascii() {
        return Some(name.to_ascii_lowercase());
    }
    let mut folded: Vec<(u8, Option<char>)> = Vec::with_capacity(name.len());
    for c in text.chars() {
        if is_ignorable(c) {
            folded.push((0, None));
            continue;
        }
        if !is_assigned(c) {
            folded.push((0, Some(c)));
            continue;
        }
        // The kernel's table maps each code point by itself and folds what a decomposition left unfolded.
        for c in std::iter::once(c).default_case_fold() {
            decompose_canonical(c, |part| {
                folded.extend(
                    std::iter::once(part)
                        .default_case_fold()
                        .filter(|&c| !is_ignorable(c))
                        .map(|c| (canonical_combining_class(c), Some(c))),
                );
            });
        }
    }
    // Marks are ordered by their class between the characters of class 0; marks of one class keep their order.
    // What is ignorable leaves a place behind, over which no mark moves.
    for marks in folded.split_mut(|&(class, _)| class == 0) {
        marks.sort_by_key(|&(class, _)| class);
    }
    Some(folded.into_iter().filter_map(|(_, c)| c).collect::<String>().into_bytes())
}

/// `Default_Ignorable_Code_Point` of Unicode 12.1's `DerivedCoreProperties.txt`, unassigned ones among them.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}
