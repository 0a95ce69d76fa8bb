//! Namespace Identification Descriptors (Base, figure 316): type, length, two reserved bytes, then the identifier.

open_type! {
    /// The type of an identifier.
    DescriptorType(u8) {
        /// IEEE Extended Unique Identifier: 8 bytes.
        EUI64 = 1,
        /// Namespace Globally Unique Identifier: 16 bytes.
        NGUID = 2,
        /// UUID: 16 bytes.
        UUID = 3,
        /// Command set: 1 byte.
        COMMAND_SET = 4,
    }
}

/// Writes a descriptor at byte `at` of a page; where the next one goes. Answers `at` where it does not fit.
#[must_use]
pub fn push_descriptor(
    page: &mut [u8; super::SIZE],
    at: usize,
    kind: DescriptorType,
    identifier: &[u8],
) -> usize {
    let Ok(length) = u8::try_from(identifier.len()) else { return at };
    let end = at + 4 + identifier.len();
    let Some((head, rest)) = page.get_mut(at..end).and_then(<[u8]>::split_first_chunk_mut::<4>) else {
        return at;
    };
    *head = [kind.0, length, 0, 0];
    rest.copy_from_slice(identifier);
    end
}

/// The descriptors of a page, up to the first of length 0 or one that does not fit.
pub fn descriptors(page: &[u8; super::SIZE]) -> impl Iterator<Item = (DescriptorType, &[u8])> {
    let mut rest: &[u8] = page;
    core::iter::from_fn(move || {
        let (&[kind, length, _, _], tail) = rest.split_first_chunk::<4>()?;
        let (identifier, tail) = tail.split_at_checked(usize::from(length)).filter(|_| length > 0)?;
        rest = tail;
        Some((DescriptorType(kind), identifier))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_written_are_found_again() {
        let mut page = [0; super::super::SIZE];
        let next = push_descriptor(&mut page, 0, DescriptorType::NGUID, &[7; 16]);
        assert_eq!(push_descriptor(&mut page, next, DescriptorType::COMMAND_SET, &[0]), 25);
        let mut found = descriptors(&page);
        assert_eq!(found.next(), Some((DescriptorType::NGUID, &[7; 16][..])));
        assert_eq!(found.next(), Some((DescriptorType::COMMAND_SET, &[0][..])));
        assert_eq!(found.next(), None);
        drop(found);
        assert_eq!(push_descriptor(&mut page, 4090, DescriptorType::UUID, &[1; 16]), 4090, "no room");
    }

    #[test]
    fn page_of_arbitrary_bytes_ends() {
        let page: [u8; 4096] = core::array::from_fn(|at| u8::try_from(at % 253).unwrap());
        assert!(descriptors(&page).count() < 1024);
    }
}
