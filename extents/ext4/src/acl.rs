//! POSIX ACLs: what the volume stores (`fs/ext4/acl.h`) turned into what `getxattr(2)` gives
//! (`include/uapi/linux/posix_acl_xattr.h`).

use extents_core::{Error, Result};

const STORED_VERSION: u32 = 1;
const GIVEN_VERSION: u32 = 2;
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;
/// `ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER`: stored without an id.
const TAGS_WITHOUT_ID: [u16; 4] = [0x01, 0x04, 0x10, 0x20];
const NO_ID: u32 = u32::MAX;

/// Turns the stored form into the one that `getxattr(2)` gives.
pub(crate) fn to_xattr(stored: &[u8]) -> Result<Vec<u8>> {
    let bad = || Error::corrupt("access control list", "its entries make no sense");
    let (version, mut rest) = stored.split_first_chunk().ok_or_else(bad)?;
    if u32::from_le_bytes(*version) != STORED_VERSION {
        return Err(bad());
    }
    let mut given = Vec::with_capacity(stored.len() * 2);
    given.extend_from_slice(&GIVEN_VERSION.to_le_bytes());
    while let Some((entry, after)) = rest.split_first_chunk::<4>() {
        let [tag_low, tag_high, ..] = *entry;
        let tag = u16::from_le_bytes([tag_low, tag_high]);
        let id = if tag == TAG_USER || tag == TAG_GROUP {
            let (id, after) = after.split_first_chunk().ok_or_else(bad)?;
            rest = after;
            u32::from_le_bytes(*id)
        } else if TAGS_WITHOUT_ID.contains(&tag) {
            rest = after;
            NO_ID
        } else {
            return Err(bad());
        };
        given.extend_from_slice(entry);
        given.extend_from_slice(&id.to_le_bytes());
    }
    if rest.is_empty() { Ok(given) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_xattr_entries_without_id_get_the_undefined_one() {
        let stored = [
            1, 0, 0, 0, // version
            1, 0, 6, 0, // owner: rw-
            2, 0, 4, 0, 0xE8, 3, 0, 0, // user 1000: r--
            4, 0, 4, 0, // group: r--
            0x10, 0, 4, 0, // mask: r--
            0x20, 0, 0, 0, // others: ---
        ];
        let given = to_xattr(&stored).unwrap();
        assert_eq!(given.len(), 4 + 5 * 8);
        assert_eq!(given[..4], [2, 0, 0, 0]);
        assert_eq!(given[4..12], [1, 0, 6, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(given[12..20], [2, 0, 4, 0, 0xE8, 3, 0, 0]);
    }

    #[test]
    fn to_xattr_cut_entry_is_refused() {
        assert!(to_xattr(&[1, 0, 0, 0, 2, 0, 4, 0, 1]).is_err());
        assert!(to_xattr(&[1, 0, 0, 0, 3, 0, 4, 0]).is_err());
        assert!(to_xattr(&[2, 0, 0, 0]).is_err());
    }
}
