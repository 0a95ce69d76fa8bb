//! The flags that every file system has.

/// Flags of mount(2) that are not about one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct MountFlags(u32);

impl MountFlags {
    // include/uapi/linux/mount.h
    /// `MS_NOSUID`
    pub const NOSUID: Self = Self(1 << 1);
    /// `MS_NODEV`
    pub const NODEV: Self = Self(1 << 2);
    /// `MS_NOEXEC`
    pub const NOEXEC: Self = Self(1 << 3);
    /// `MS_SYNCHRONOUS`
    pub const SYNC: Self = Self(1 << 4);
    /// `MS_DIRSYNC`
    pub const DIRSYNC: Self = Self(1 << 7);
    /// `MS_NOSYMFOLLOW`
    pub const NOSYMFOLLOW: Self = Self(1 << 8);
    /// `MS_NOATIME`
    pub const NOATIME: Self = Self(1 << 10);
    /// `MS_NODIRATIME`
    pub const NODIRATIME: Self = Self(1 << 11);
    /// `MS_RELATIME`
    pub const RELATIME: Self = Self(1 << 21);
    /// `MS_STRICTATIME`
    pub const STRICTATIME: Self = Self(1 << 24);
    /// `MS_LAZYTIME`
    pub const LAZYTIME: Self = Self(1 << 25);

    /// The flags as mount(2) takes them.
    #[must_use]
    pub fn kernel_flags(self) -> u32 {
        self.0
    }

    /// Whether all of these flags are set.
    #[must_use]
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Sets flags.
    pub fn set(&mut self, flags: Self) {
        self.0 |= flags.0;
    }

    /// Clears flags.
    pub fn clear(&mut self, flags: Self) {
        self.0 &= !flags.0;
    }
}

impl std::ops::BitOr for MountFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
