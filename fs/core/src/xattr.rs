//! Extended attributes: ours, which are computed, and the volume's, which pass through.

use extents_core::{Flow, Ino, Metadata, XattrNamespace};
use homi_abi::session::HANDLE_WRITE;

use crate::access::{self, Caller};
use crate::error::{FsError, Result};
use crate::homifs::Homifs;
use crate::layout;

/// An attribute that the daemon computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    /// `homi.extents` and `homi.extents@N`: the map from place N on, binary.
    Extents(usize),
    /// `homi.extents.json` and `homi.extents.json@N`.
    Json(usize),
    /// `homi.layout`.
    Layout,
    /// `homi.handle`.
    Handle,
    /// `homi.handle.write`.
    WriteHandle,
}

impl Ours {
    /// `None`: not one of ours. `Some(None)`: within our namespace, but no such attribute.
    fn parse(name: &[u8]) -> Option<Option<Self>> {
        let rest = name.strip_prefix(b"homi.")?;
        let (base, first) = match rest.iter().position(|&byte| byte == b'@') {
            Some(at) => {
                let digits = std::str::from_utf8(&rest[at + 1..]).ok();
                let Some(first) = digits.and_then(|digits| digits.parse().ok()) else { return Some(None) };
                (&rest[..at], Some(first))
            }
            None => (rest, None),
        };
        Some(match (base, first) {
            (b"extents", first) => Some(Self::Extents(first.unwrap_or(0))),
            (b"extents.json", first) => Some(Self::Json(first.unwrap_or(0))),
            (b"layout", None) => Some(Self::Layout),
            (b"handle", None) => Some(Self::Handle),
            (b"handle.write", None) => Some(Self::WriteHandle),
            _ => None,
        })
    }
}

impl Homifs {
    /// The value of an attribute of an inode.
    pub(crate) fn xattr_of(&self, ino: Ino, name: &[u8], caller: &Caller) -> Result<Vec<u8>> {
        match Ours::parse(name) {
            Some(Some(ours)) => self.computed(ino, ours, caller),
            Some(None) => Err(FsError::NoAttribute),
            None => {
                let (namespace, rest) = XattrNamespace::split(name).ok_or(FsError::NoAttribute)?;
                self.volume().xattr(ino, namespace, rest)?.ok_or(FsError::NoAttribute)
            }
        }
    }

    fn computed(&self, ino: Ino, ours: Ours, caller: &Caller) -> Result<Vec<u8>> {
        let metadata: Metadata = self.volume().metadata(ino)?;
        if metadata.is_directory() && ours == Ours::Handle {
            // Dataset snapshots are asked for by it.
            caller.require(self.volume(), ino, &metadata, access::READ | access::SEARCH)?;
            return self.handle_of(ino, 0);
        }
        if !metadata.is_regular() {
            return Err(FsError::NoAttribute);
        }
        caller.require(self.volume(), ino, &metadata, access::READ)?;
        if ours == Ours::Handle && self.options().has_lower() {
            // A lease brings a map of its own; one of a file that is being written could not be had.
            return self.handle_of(ino, 0);
        }
        let map = self.map_of(ino)?;
        let context = self.map_context(ino);
        Ok(match ours {
            Ours::Handle => self.handle_of(ino, 0)?,
            Ours::WriteHandle => {
                self.require_writable(ino, caller)?;
                self.handle_of(ino, HANDLE_WRITE)?
            }
            Ours::Extents(first) => layout::binary(&map, context, first),
            Ours::Json(first) => layout::json(&map, context, first),
            Ours::Layout => {
                let (format, path) = (self.volume().info().format, &self.device().info().path);
                layout::line(&map, context, format, path).into_bytes()
            }
        })
    }

    /// The names of the volume's own attributes, each ended by NUL, as `listxattr(2)` gives them.
    pub(crate) fn xattr_names_of(&self, ino: Ino, caller: &Caller) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        self.volume().xattrs(ino, &mut |xattr| {
            // The kernel shows these only to those who could read them; through FUSE it cannot tell.
            if xattr.namespace != XattrNamespace::Trusted || caller.uid == 0 {
                names.extend_from_slice(xattr.namespace.prefix().as_bytes());
                names.extend_from_slice(xattr.name);
                names.push(0);
            }
            Flow::Continue(())
        })?;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_names_of_ours() {
        assert_eq!(Ours::parse(b"homi.extents"), Some(Some(Ours::Extents(0))));
        assert_eq!(Ours::parse(b"homi.extents@2045"), Some(Some(Ours::Extents(2045))));
        assert_eq!(Ours::parse(b"homi.extents.json@7"), Some(Some(Ours::Json(7))));
        assert_eq!(Ours::parse(b"homi.layout"), Some(Some(Ours::Layout)));
    }

    #[test]
    fn parse_unknown_of_ours_is_not_passed_to_the_volume() {
        for name in [&b"homi."[..], b"homi.nothing", b"homi.extents@", b"homi.extents@-1", b"homi.layout@1"] {
            assert_eq!(Ours::parse(name), Some(None), "{:?}", String::from_utf8_lossy(name));
        }
        assert_eq!(Ours::parse(b"user.homi.extents"), None);
    }
}
