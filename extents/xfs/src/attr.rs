//! Extended attributes, in all their forms.
//!
//! Few and small ones lie within the inode; more of them in one leaf, or in several under a tree of hashes. A
//! value that does not fit into a leaf lies in blocks of its own. The order of a listing is the kernel's.

mod acl;
mod leaf;
mod remote;
mod shortform;

use std::borrow::Cow;

use bitflags::bitflags;
use extents_core::{Error, FileBlock, Flow, Result, Xattr, XattrNamespace};

use crate::attr::leaf::Leaf;
use crate::dir::name::hash_name;
use crate::fork::Fork;
use crate::hash_tree::{HashTree, TreeLeaf};
use crate::inode::Inode;
use crate::volume::{BlockKind, Volume};

/// Name of the attribute in the trusted namespace that holds the access ACL (`SGI_ACL_FILE`).
const ACL_ACCESS: &[u8] = b"SGI_ACL_FILE";
/// The same for the default ACL of a directory (`SGI_ACL_DEFAULT`).
const ACL_DEFAULT: &[u8] = b"SGI_ACL_DEFAULT";
const NAME_MAX: usize = 255;
/// No value is longer (`XFS_XATTR_SIZE_MAX`).
const VALUE_MAX: u32 = 64 << 10;

bitflags! {
    /// What is special about an attribute (`XFS_ATTR_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct AttrFlags: u8 {
        /// The value is in the leaf.
        const LOCAL = 1 << 0;
        /// Namespace `trusted`.
        const ROOT = 1 << 1;
        /// Namespace `security`.
        const SECURE = 1 << 2;
        /// A parent pointer, which only the file system itself uses.
        const PARENT = 1 << 3;
        /// Not finished when the system stopped; as good as absent.
        const INCOMPLETE = 1 << 7;
        const _ = !0;
    }
}

impl AttrFlags {
    const NAMESPACES: Self = Self::ROOT.union(Self::SECURE).union(Self::PARENT);

    /// The namespace that programs see; `None` for attributes that they do not see.
    fn namespace(self) -> Result<Option<XattrNamespace>> {
        if self.contains(Self::INCOMPLETE) {
            return Ok(None);
        }
        Ok(Some(match self.intersection(Self::NAMESPACES) {
            Self::ROOT => XattrNamespace::Trusted,
            Self::SECURE => XattrNamespace::Security,
            Self::PARENT => return Ok(None),
            none if none.is_empty() => XattrNamespace::User,
            _ => return Err(Error::corrupt("attribute", "it is in several namespaces")),
        }))
    }
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Here(&'a [u8]),
    /// In blocks of the attribute fork, from `block` on.
    Elsewhere {
        block: u32,
        length: u32,
    },
}

/// An attribute as it is stored.
#[derive(Debug, Clone, Copy)]
struct Attribute<'a> {
    flags: AttrFlags,
    name: &'a [u8],
    value: Value<'a>,
}

impl Attribute<'_> {
    fn is(&self, namespace: XattrNamespace, name: &[u8]) -> Result<bool> {
        Ok(self.name == name && self.flags.namespace()? == Some(namespace))
    }
}

/// The value of an attribute; `None` where the inode has none of this name.
///
/// # Errors
/// `Corrupt` where a structure on the way contradicts itself.
pub(crate) fn get(
    volume: &Volume,
    inode: &Inode,
    namespace: XattrNamespace,
    name: &[u8],
) -> Result<Option<Vec<u8>>> {
    use XattrNamespace::{AclAccess, AclDefault, Security, System, Trusted, User};
    let acl = match namespace {
        AclAccess => ACL_ACCESS,
        AclDefault => ACL_DEFAULT,
        User | Trusted | Security => return find(volume, inode, namespace, name),
        System => return Ok(None),
    };
    let stored = find(volume, inode, Trusted, acl)?;
    stored
        .map(|stored| acl::to_xattr(volume.geometry(), &stored))
        .transpose()
        .map_err(|e| e.in_inode(inode.ino))
}

fn find(volume: &Volume, inode: &Inode, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Ok(None);
    }
    let found = match inode.attr_fork() {
        None => Ok(None),
        Some(Fork::Local(bytes)) => find_short(bytes, namespace, name),
        Some(fork) => Leaves { volume, inode, fork }.find(namespace, name),
    };
    found.map_err(|error| error.in_inode(inode.ino))
}

fn find_short(bytes: &[u8], namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>> {
    for attribute in shortform::attributes(bytes)? {
        let attribute = attribute?;
        if let Value::Here(value) = attribute.value
            && attribute.is(namespace, name)?
        {
            return Ok(Some(value.to_vec()));
        }
    }
    Ok(None)
}

/// Gives the names of all attributes that `listxattr` shows to root: ACLs under both their names.
///
/// # Errors
/// `Corrupt` at the first structure or name that contradicts itself.
pub(crate) fn list(volume: &Volume, inode: &Inode, visit: &mut dyn FnMut(Xattr<'_>) -> Flow) -> Result<()> {
    let mut visit = |attribute: &Attribute<'_>| show(attribute, visit);
    let listed = match inode.attr_fork() {
        None => Ok(()),
        Some(Fork::Local(bytes)) => list_short(bytes, &mut visit),
        Some(fork) => Leaves { volume, inode, fork }.list(&mut visit),
    };
    listed.map_err(|error| error.in_inode(inode.ino))
}

fn list_short(bytes: &[u8], visit: &mut Visit<'_>) -> Result<()> {
    for attribute in shortform::attributes(bytes)? {
        if visit(&attribute?)?.is_break() {
            break;
        }
    }
    Ok(())
}

type Visit<'a> = dyn FnMut(&Attribute<'_>) -> Result<Flow> + 'a;

fn show(attribute: &Attribute<'_>, visit: &mut dyn FnMut(Xattr<'_>) -> Flow) -> Result<Flow> {
    let Some(namespace) = attribute.flags.namespace()? else { return Ok(Flow::Continue(())) };
    if attribute.name.is_empty() || attribute.name.contains(&0) {
        return Err(Error::corrupt("attribute", "its name is empty or has a NUL in it"));
    }
    let acl = match (namespace, attribute.name) {
        (XattrNamespace::Trusted, ACL_ACCESS) => Some(XattrNamespace::AclAccess),
        (XattrNamespace::Trusted, ACL_DEFAULT) => Some(XattrNamespace::AclDefault),
        _ => None,
    };
    if let Some(namespace) = acl
        && visit(Xattr { namespace, name: b"" }).is_break()
    {
        return Ok(Flow::Break(()));
    }
    Ok(visit(Xattr { namespace, name: attribute.name }))
}

/// An attribute fork that has blocks.
struct Leaves<'a> {
    volume: &'a Volume,
    inode: &'a Inode,
    fork: Fork<'a>,
}

impl Leaves<'_> {
    /// The tree of hashes; with one leaf, that is its root.
    fn tree(&self) -> HashTree<'_> {
        HashTree {
            volume: self.volume,
            inode: self.inode,
            fork: self.fork,
            root: FileBlock(0),
            blocks: 1,
            kind: BlockKind::AttrLeaf,
            verify_leaf: leaf::verify,
        }
    }

    /// Gives the attributes whose hash is `from` or larger, leaf by leaf, until `visit` breaks.
    fn walk(&self, from: u32, visit: &mut dyn FnMut(u32, &Attribute<'_>) -> Result<Flow>) -> Result<()> {
        let tree = self.tree();
        // A fork without any block is what remains when all attributes are gone.
        let mut next = tree.find_leaf(from)?;
        let mut first = None;
        while let Some(TreeLeaf { at, block }) = next {
            let first = *first.get_or_insert(at);
            let leaf = Leaf::parse(self.volume, &block)?;
            for entry in leaf.at_or_after(from) {
                if visit(entry.hash(), &leaf.attribute(entry)?)?.is_break() {
                    return Ok(());
                }
            }
            next = tree.next_leaf(&TreeLeaf { at, block }, first)?;
        }
        Ok(())
    }

    fn find(&self, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let hash = hash_name(name);
        let mut found = None;
        self.walk(hash, &mut |here, attribute| {
            if here != hash {
                return Ok(Flow::Break(()));
            }
            if !attribute.is(namespace, name)? {
                return Ok(Flow::Continue(()));
            }
            found = Some(self.value(attribute.value)?.into_owned());
            Ok(Flow::Break(()))
        })?;
        Ok(found)
    }

    fn list(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.walk(0, &mut |_, attribute| visit(attribute))
    }

    fn value<'v>(&self, value: Value<'v>) -> Result<Cow<'v, [u8]>> {
        match value {
            Value::Here(bytes) => Ok(Cow::Borrowed(bytes)),
            Value::Elsewhere { block, length } => {
                remote::read(self.volume, self.inode, self.fork, block, length).map(Cow::Owned)
            }
        }
    }
}
