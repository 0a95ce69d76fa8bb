//! Which pages of an arena are free: one taker, any number of givers, no lock.

use std::sync::atomic::{AtomicU64, Ordering};

const BITS: usize = 64;

/// One bit for each page, set while the page is free.
///
/// Only one thread at a time takes pages, so a run of set bits that it has found can only grow before it clears
/// them; givers only ever set bits. That is why no compare-and-swap is needed.
pub(crate) struct PageMap {
    words: Box<[AtomicU64]>,
    pages: usize,
}

impl PageMap {
    /// All of `pages` pages free.
    pub(crate) fn all_free(pages: usize) -> Self {
        let words = (0..pages.div_ceil(BITS))
            .map(|index| AtomicU64::new(mask(0, (pages - index * BITS).min(BITS))))
            .collect();
        Self { words, pages }
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Takes the first run of `count` (at least one) free pages and answers where it starts. Must not run on two
    /// threads at once.
    pub(crate) fn take(&self, count: usize) -> Option<usize> {
        let mut from = 0;
        loop {
            let start = self.next(from, true)?;
            let end = self.next(start, false).unwrap_or(self.pages);
            if end - start >= count {
                self.for_each_word(start, count, |word, mask| {
                    // Acquire: what the giver did with the page happened before what the taker will do.
                    word.fetch_and(!mask, Ordering::Acquire);
                });
                return Some(start);
            }
            from = end;
        }
    }

    /// Frees `count` pages from `start` on.
    pub(crate) fn give(&self, start: usize, count: usize) {
        self.for_each_word(start, count, |word, mask| {
            let before = word.fetch_or(mask, Ordering::Release);
            debug_assert_eq!(before & mask, 0, "a page is given back once");
        });
    }

    /// The first page from `from` on that is free, or that is not.
    fn next(&self, from: usize, free: bool) -> Option<usize> {
        let mut index = from / BITS;
        let mut ignore = mask(0, from % BITS);
        loop {
            let word = self.words.get(index)?.load(Ordering::Relaxed);
            let wanted = (if free { word } else { !word }) & !ignore;
            if wanted != 0 {
                let page = index * BITS + position(wanted);
                // The bits past the last page read as taken.
                return (page < self.pages).then_some(page);
            }
            ignore = 0;
            index += 1;
        }
    }

    fn for_each_word(&self, start: usize, count: usize, mut apply: impl FnMut(&AtomicU64, u64)) {
        let end = start + count;
        let mut page = start;
        while page < end {
            let first = page % BITS;
            let last = (first + end - page).min(BITS);
            if let Some(word) = self.words.get(page / BITS) {
                apply(word, mask(first, last));
            }
            page += last - first;
        }
    }
}

/// The bits from `first` up to, not including, `end`.
fn mask(first: usize, end: usize) -> u64 {
    let below = |n: usize| if n >= BITS { u64::MAX } else { (1 << n) - 1 };
    below(end) & !below(first)
}

fn position(word: u64) -> usize {
    crate::to_usize(u64::from(word.trailing_zeros()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set of page numbers, whatever the order of taking and giving.
        #[test]
        fn take_and_give_any_order_agree_with_a_set(
            pages in 1_usize..300,
            steps in prop::collection::vec((any::<bool>(), 1_usize..140), 1..200),
        ) {
            let map = PageMap::all_free(pages);
            let mut free: BTreeSet<usize> = (0..pages).collect();
            let mut taken = Vec::new();
            for (take, amount) in steps {
                if take || taken.is_empty() {
                    let expected = (0..pages).find(|&at| (at..at + amount).all(|page| free.contains(&page)));
                    prop_assert_eq!(map.take(amount), expected);
                    if let Some(start) = expected {
                        (start..start + amount).for_each(|page| { free.remove(&page); });
                        taken.push((start, amount));
                    }
                } else {
                    let (start, count) = taken.swap_remove(amount % taken.len());
                    map.give(start, count);
                    free.extend(start..start + count);
                }
            }
        }
    }
}
