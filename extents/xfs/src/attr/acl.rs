//! POSIX ACLs, which are stored as attributes with a layout of their own (`xfs_acl`).

use extents_core::{Error, Result, to_usize};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::attr::VALUE_MAX;
use crate::geometry::Geometry;

/// An entry (`xfs_acl_entry`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AclEntry {
    ae_tag: U32,
    ae_id: U32,
    ae_perm: U16,
    ae_pad: U16,
}
const _: () = assert!(size_of::<AclEntry>() == 12);

/// Most entries on version 4 (`XFS_ACL_MAX_ENTRIES`); version 5 has as many as fit into a value.
const ENTRIES_MAX_V4: u32 = 25;
const ENTRIES_MAX_V5: u32 = (VALUE_MAX - 4) / 12;
/// `POSIX_ACL_XATTR_VERSION`, of `struct posix_acl_xattr_header`.
const XATTR_VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID`: what the kernel gives for entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// A stored ACL, in the form that `getxattr` gives.
pub(super) fn to_xattr(geometry: &Geometry, stored: &[u8]) -> Result<Vec<u8>> {
    let bad = |problem: &'static str| Error::corrupt("ACL", problem);
    let (count, entries) = U32::ref_from_prefix(stored).map_err(|_| bad("too short"))?;
    let most = if geometry.is_v5() { ENTRIES_MAX_V5 } else { ENTRIES_MAX_V4 };
    let entries = Some(count.get())
        .filter(|&count| count <= most)
        .and_then(|count| <[AclEntry]>::ref_from_bytes_with_elems(entries, to_usize(u64::from(count))).ok())
        .ok_or_else(|| bad("its length is not that of its entries"))?;
    let mut xattr = XATTR_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        // The numbers of the tags are the same on both sides (ACL_USER_OBJ to ACL_OTHER).
        let (tag, id) = match entry.ae_tag.get() {
            tag @ (0x02 | 0x08) => (tag, entry.ae_id.get()),
            tag @ (0x01 | 0x04 | 0x10 | 0x20) => (tag, NOBODY),
            _ => return Err(bad("an entry of unknown kind")),
        };
        let tag = u16::try_from(tag).map_err(|_| bad("an entry of unknown kind"))?;
        xattr.extend_from_slice(&tag.to_le_bytes());
        xattr.extend_from_slice(&entry.ae_perm.get().to_le_bytes());
        xattr.extend_from_slice(&id.to_le_bytes());
    }
    Ok(xattr)
}
