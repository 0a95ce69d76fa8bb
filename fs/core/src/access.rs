//! Whether a caller may read a file, where the kernel does not ask for us.
//!
//! The kernel checks permissions before it opens, lists or looks up (`default_permissions`). It checks nothing for
//! attributes outside its own namespaces and nothing for control requests; what those tell about a file is for
//! those who may read it, so they are checked here, by the rules of `fs/posix_acl.c` and `generic_permission`.

use extents_core::{FileSystem, Ino, Metadata, XattrNamespace};

use crate::error::{FsError, Result};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
    /// Process, from which the supplementary groups are read; 0 where it has none that we can see.
    pub pid: u32,
    /// The supplementary groups, where they are known without asking for the process's.
    pub groups: Option<Vec<u32>>,
}

/// Permission to read contents.
pub(crate) const READ: u8 = 4;
/// Permission to write contents.
pub(crate) const WRITE: u8 = 2;
/// Permission to pass through a directory.
pub(crate) const SEARCH: u8 = 1;

impl Caller {
    /// Answers `Denied` unless the caller has all of `wanted` (bits of [`READ`] and [`SEARCH`]) on an inode.
    pub(crate) fn require(
        &self,
        volume: &dyn FileSystem,
        ino: Ino,
        metadata: &Metadata,
        wanted: u8,
    ) -> Result<()> {
        if self.uid == 0 {
            return Ok(());
        }
        let class = |shift: u32| u8::try_from((metadata.mode >> shift) & 7).unwrap_or(0);
        let granted = if self.uid == metadata.uid {
            class(6)
        } else {
            let groups = self.groups();
            let in_group = |gid: u32| gid == self.gid || groups.contains(&gid);
            match volume.xattr(ino, XattrNamespace::AclAccess, b"")? {
                Some(acl) => {
                    acl_grant(&acl, self.uid, in_group, metadata.gid, wanted).ok_or(FsError::Denied)?
                }
                None if in_group(metadata.gid) => class(3),
                None => class(0),
            }
        };
        if granted & wanted == wanted { Ok(()) } else { Err(FsError::Denied) }
    }

    fn groups(&self) -> Vec<u32> {
        if let Some(groups) = &self.groups {
            return groups.clone();
        }
        if self.pid == 0 {
            return Vec::new();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or("");
        line.split_ascii_whitespace().filter_map(|gid| gid.parse().ok()).collect()
    }
}

// Tags of `struct posix_acl_xattr_entry` (include/uapi/linux/posix_acl.h).
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What an ACL grants to somebody who is not the owner; `None` where the value is no ACL.
///
/// A named user gets that entry under the mask. Somebody in the owning or a named group gets the first entry that
/// grants everything wanted, and nothing where none does. All others get the rest.
fn acl_grant(
    acl: &[u8],
    uid: u32,
    in_group: impl Fn(u32) -> bool,
    owning_group: u32,
    wanted: u8,
) -> Option<u8> {
    let (version, entries) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 {
        return None;
    }
    let entries: Vec<(u16, u8, u32)> = entries
        .chunks_exact(8)
        .map(|entry| {
            let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            (short(0), (short(2) & 7).try_into().unwrap_or(0), id)
        })
        .collect();
    let mask = entries.iter().find(|entry| entry.0 == MASK).map_or(7, |entry| entry.1);
    if let Some(entry) = entries.iter().find(|entry| entry.0 == USER && entry.2 == uid) {
        return Some(entry.1 & mask);
    }
    let mut in_some_group = false;
    for &(tag, bits, id) in &entries {
        let applies = match tag {
            GROUP_OBJ => in_group(owning_group),
            GROUP => in_group(id),
            _ => false,
        };
        in_some_group |= applies;
        if applies && bits & mask & wanted == wanted {
            return Some(bits & mask);
        }
    }
    if in_some_group {
        return Some(0);
    }
    entries.iter().find(|entry| entry.0 == OTHER).map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn acl_grant_named_user_is_masked() {
        let value = acl(&[(1, 7, 0), (USER, 7, 1000), (GROUP_OBJ, 0, 0), (MASK, 1, 0), (OTHER, 4, 0)]);
        assert_eq!(acl_grant(&value, 1000, |_| false, 0, READ), Some(1));
        assert_eq!(acl_grant(&value, 1001, |_| false, 0, READ), Some(4));
    }

    #[test]
    fn acl_grant_member_of_a_group_without_right_does_not_fall_to_others() {
        let value = acl(&[(1, 7, 0), (GROUP_OBJ, 0, 0), (GROUP, 1, 50), (MASK, 7, 0), (OTHER, 7, 0)]);
        assert_eq!(acl_grant(&value, 1000, |gid| gid == 50, 0, READ), Some(0));
        assert_eq!(acl_grant(&value, 1000, |_| false, 0, READ), Some(7));
    }

    #[test]
    fn acl_grant_broken_value_grants_nothing() {
        assert_eq!(acl_grant(b"", 1000, |_| true, 0, READ), None);
        assert_eq!(acl_grant(&[9, 0, 0, 0], 1000, |_| true, 0, READ), None);
        assert_eq!(acl_grant(&acl(&[]), 1000, |_| true, 0, READ), None);
    }
}
