//! The arithmetic of Physical Region Pages (Base, section 4.3.1), without memory.
//!
//! The first entry may start anywhere within a page (at a multiple of four bytes) and goes to that page's end; every
//! other entry is a whole page. With more than two entries the second is the address of a list; where a list reaches the
//! end of its page, its last place holds the address of the next list.

/// How many pages a transfer of `length` bytes touches that starts at `address`.
#[must_use]
pub const fn pages(address: u64, length: u64, page: u64) -> u64 {
    if length == 0 { 0 } else { (address % page + length).div_ceil(page) }
}

/// How many bytes the first entry covers.
#[must_use]
pub const fn first(address: u64, length: u64, page: u64) -> u64 {
    let room = page - address % page;
    if length < room { length } else { room }
}

/// The address of page number `index` of a transfer that is contiguous on the bus: `address` itself for the first.
#[must_use]
pub const fn page_at(address: u64, index: u64, page: u64) -> u64 {
    if index == 0 { address } else { address - address % page + index * page }
}

/// How many entries fit between a list's address and the end of its page.
#[must_use]
pub const fn room_of_list(address: u64, page: u64) -> u64 {
    (page - address % page) / 8
}

/// How many places a list of `entries` entries takes that starts at the beginning of a page, the links to further lists
/// included.
#[must_use]
pub const fn list_places(entries: u64, page: u64) -> u64 {
    let room = page / 8;
    if entries <= room { entries } else { entries + (entries - 2) / (room - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Walking byte by byte from page to page counts the same pages and the same first part.
        #[test]
        fn pages_cover_the_transfer_once(
            start in 0_u64..1 << 40, length in 0_u64..40_000, shift in 12_u32..17
        ) {
            let page = 1 << shift;
            let (mut at, mut left, mut count) = (start, length, 0);
            while left > 0 {
                let part = left.min(page - at % page);
                prop_assert_eq!(page_at(start, count, page), at);
                if count == 0 {
                    prop_assert_eq!(first(start, length, page), part);
                }
                (at, left, count) = (at + part, left - part, count + 1);
            }
            prop_assert_eq!(pages(start, length, page), count);
        }

        /// Laying entries out one by one, with a link in the last place of a page where more than one entry is left,
        /// takes as many places.
        #[test]
        fn list_places_are_entries_and_links(entries in 1_u64..3000, shift in 6_u32..13) {
            let room = (1_u64 << shift) / 8;
            let (mut left, mut places, mut at) = (entries, 0, 0);
            while left > 0 {
                if at == room - 1 && left > 1 {
                    places += 1;
                    at = 0;
                    continue;
                }
                (left, places, at) = (left - 1, places + 1, (at + 1) % room);
            }
            prop_assert_eq!(list_places(entries, 1 << shift), places);
        }
    }

    #[test]
    fn list_that_starts_within_a_page_has_the_rest_of_it() {
        assert_eq!(room_of_list(0x1000, 4096), 512);
        assert_eq!(room_of_list(0x1ff8, 4096), 1);
    }
}
