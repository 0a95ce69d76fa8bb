//! How names are hashed and compared.

use extents_core::{Error, Result};

/// Whether two names are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    Different,
    /// They differ in case only, on a volume that does not distinguish it.
    ButForCase,
    Same,
}

/// The rules of a volume for names in directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameRules {
    /// The volume was made with `-n version=ci`.
    pub(crate) ignore_case: bool,
}

/// The hash of a name as it is (`xfs_da_hashname`): for attributes, and for directories that distinguish case.
pub(crate) fn hash_name(name: &[u8]) -> u32 {
    name.iter().fold(0_u32, |hash, &byte| u32::from(byte) ^ hash.rotate_left(7))
}

impl NameRules {
    /// The hash under which a directory's leaves have a name.
    pub(crate) fn hash(self, name: &[u8]) -> u32 {
        if !self.ignore_case {
            return hash_name(name);
        }
        // xfs_ascii_ci_hashname
        name.iter().fold(0_u32, |hash, &byte| u32::from(lower(byte)) ^ hash.rotate_left(7))
    }

    pub(crate) fn compare(self, wanted: &[u8], found: &[u8]) -> Likeness {
        if wanted == found {
            return Likeness::Same;
        }
        let alike = self.ignore_case
            && wanted.len() == found.len()
            && wanted.iter().zip(found).all(|(&a, &b)| lower(a) == lower(b));
        if alike { Likeness::ButForCase } else { Likeness::Different }
    }
}

/// Case is folded for ASCII and for the letters of Latin-1 (`xfs_ascii_ci_xfrm`).
fn lower(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte.wrapping_add(b'a' - b'A'),
        other => other,
    }
}

/// Refuses a name that no program could open: it would lead elsewhere, or end early.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(Error::corrupt("directory entry", "its name is empty or has a slash or a NUL in it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_name_known_names_equals_what_xfs_db_prints() {
        // `xfs_db -c 'hash NAME'`
        for (name, hash) in [
            (&b"."[..], 0x2e),
            (b"..", 0x172e),
            (b"lost+found", 0x021a_a60c),
            (b"abcdefghijklmnop", 0x3b24_6696),
            (b"HelloWorld", 0x1825_053d),
        ] {
            assert_eq!(hash_name(name), hash);
        }
    }

    #[test]
    fn compare_names_that_differ_in_case_is_same_only_where_case_is_ignored() {
        let (exact, folded) = (NameRules { ignore_case: false }, NameRules { ignore_case: true });
        assert_eq!(exact.compare(b"Name", b"naMe"), Likeness::Different);
        assert_eq!(folded.compare(b"Name", b"naMe"), Likeness::ButForCase);
        assert_eq!(folded.compare(b"Name", b"Name"), Likeness::Same);
        assert_eq!(folded.compare(b"Name", b"Names"), Likeness::Different);
        assert_eq!(folded.hash(b"NaM\xc9"), folded.hash(b"nAm\xe9"));
        assert_ne!(folded.hash(b"\xd7"), folded.hash(b"\xf7"));
    }
}
