//! How the kernel's node numbers stand for the volume's inodes and for our own files.

use extents_core::Ino;

/// A node number as FUSE knows it: the inode number itself, but for the root, which FUSE calls 1, and for our own
/// files, which have bit 63 set. So the daemon keeps no table of inodes at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub u64);

/// One of our own files, in the hidden directory `.homi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// The directory itself.
    Directory,
    /// Takes requests, gives answers.
    Control,
    /// Counters, as Prometheus reads them.
    Stats,
    /// What the volume says about itself.
    Volume,
    /// What is open, and which path serves it.
    State,
    /// Leads to the socket of those who read by queues of their own; only there while they are served.
    Socket,
}

impl Special {
    /// The name of the hidden directory.
    pub const DIRECTORY_NAME: &'static [u8] = b".homi";

    /// The files in the hidden directory.
    pub const FILES: [(Self, &'static str); 5] = [
        (Self::Control, "control"),
        (Self::Stats, "stats"),
        (Self::Volume, "volume"),
        (Self::State, "state"),
        (Self::Socket, "socket"),
    ];

    /// The file of this name.
    #[must_use]
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Self::FILES.iter().find(|(_, known)| known.as_bytes() == name).map(|&(special, _)| special)
    }

    /// Set in the numbers of our own files, and in no inode number.
    pub const BIT: u64 = 1 << 63;

    fn number(self) -> u64 {
        match self {
            Self::Directory => 1,
            Self::Control => 2,
            Self::Stats => 3,
            Self::Volume => 4,
            Self::State => 5,
            Self::Socket => 6,
        }
    }

    /// Its node number.
    #[must_use]
    pub fn node(self) -> NodeId {
        NodeId(Self::BIT | self.number())
    }
}

/// What a node number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// An inode of the volume.
    Inode(Ino),
    /// One of our own files.
    Special(Special),
}

impl NodeId {
    /// The root directory, as FUSE numbers it.
    pub const ROOT: Self = Self(1);

    /// The node of an inode on a volume whose root is `root`.
    #[must_use]
    pub fn of(ino: Ino, root: Ino) -> Self {
        if ino == root { Self::ROOT } else { Self(ino.0) }
    }

    /// What the number stands for on a volume whose root is `root`; `None` for one of our own that is not.
    #[must_use]
    pub fn resolve(self, root: Ino) -> Option<Node> {
        if self == Self::ROOT {
            return Some(Node::Inode(root));
        }
        if self.0 & Special::BIT == 0 {
            return Some(Node::Inode(Ino(self.0)));
        }
        let files = Special::FILES.iter().map(|&(special, _)| special);
        std::iter::once(Special::Directory)
            .chain(files)
            .find(|special| special.node() == self)
            .map(Node::Special)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_each_special_file_is_itself() {
        for (special, name) in Special::FILES {
            assert_eq!(special.node().resolve(Ino(2)), Some(Node::Special(special)));
            assert_eq!(Special::by_name(name.as_bytes()), Some(special));
        }
        assert_eq!(NodeId(1 << 63 | 99).resolve(Ino(2)), None);
    }

    #[test]
    fn resolve_root_and_others_round_trip() {
        for ino in [Ino(2), Ino(128), Ino(11)] {
            assert_eq!(NodeId::of(ino, Ino(128)).resolve(Ino(128)), Some(Node::Inode(ino)));
        }
        assert_eq!(NodeId::of(Ino(128), Ino(128)), NodeId::ROOT);
    }
}
