//! What requests carry after their header.

structures! {
    /// `struct fuse_forget_in`.
    ForgetIn (8) { lookups: u64, }
    /// `struct fuse_batch_forget_in`; as many [`ForgetOne`] follow.
    BatchForgetIn (8) { count: u32, padding: u32, }
    /// `struct fuse_forget_one`.
    ForgetOne (16) { node: u64, lookups: u64, }
    /// `struct fuse_getattr_in`.
    GetattrIn (16) { flags: u32, padding: u32, handle: u64, }
    /// `struct fuse_statx_in`.
    StatxIn (24) { flags: u32, reserved: u32, handle: u64, statx_flags: u32, mask: u32, }
    /// `struct fuse_setattr_in`.
    SetattrIn (88) {
        valid: u32,
        padding: u32,
        handle: u64,
        size: u64,
        lock_owner: u64,
        atime: i64,
        mtime: i64,
        ctime: i64,
        atime_nanoseconds: u32,
        mtime_nanoseconds: u32,
        ctime_nanoseconds: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }
    /// `struct fuse_mknod_in`; the name follows.
    MknodIn (16) { mode: u32, device: u32, umask: u32, padding: u32, }
    /// `struct fuse_mkdir_in`; the name follows.
    MkdirIn (8) { mode: u32, umask: u32, }
    /// `struct fuse_rename_in`; both names follow.
    RenameIn (8) { to_directory: u64, }
    /// `struct fuse_rename2_in`; both names follow.
    Rename2In (16) { to_directory: u64, flags: u32, padding: u32, }
    /// `struct fuse_link_in`; the name follows.
    LinkIn (8) { node: u64, }
    /// `struct fuse_open_in`.
    OpenIn (8) { flags: u32, open_flags: u32, }
    /// `struct fuse_create_in`; the name follows.
    CreateIn (16) { flags: u32, mode: u32, umask: u32, open_flags: u32, }
    /// `struct fuse_read_in`.
    ReadIn (40) {
        handle: u64,
        offset: u64,
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    /// `struct fuse_write_in`; the data follow.
    WriteIn (40) {
        handle: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    /// `struct fuse_release_in`.
    ReleaseIn (24) { handle: u64, flags: u32, release_flags: u32, lock_owner: u64, }
    /// `struct fuse_fsync_in`.
    FsyncIn (16) { handle: u64, flags: u32, padding: u32, }
    /// `struct fuse_setxattr_in` as it is without `FUSE_SETXATTR_EXT`; name and value follow.
    SetxattrIn (8) { size: u32, flags: u32, }
    /// What `FUSE_SETXATTR_EXT` adds to it.
    SetxattrMore (8) { setxattr_flags: u32, padding: u32, }
    /// `struct fuse_getxattr_in`; for `FUSE_GETXATTR` the name follows.
    GetxattrIn (8) { size: u32, padding: u32, }
    /// `struct fuse_access_in`.
    AccessIn (8) { mask: u32, padding: u32, }
    /// `struct fuse_ioctl_in`; the argument follows.
    IoctlIn (32) { handle: u64, flags: u32, command: u32, argument: u64, in_size: u32, out_size: u32, }
    /// `struct fuse_fallocate_in`.
    FallocateIn (32) { handle: u64, offset: u64, length: u64, mode: u32, padding: u32, }
    /// `struct fuse_lseek_in`.
    LseekIn (24) { handle: u64, offset: u64, whence: u32, padding: u32, }
    /// `struct fuse_copy_file_range_in`.
    CopyFileRangeIn (56) {
        from: u64,
        from_offset: u64,
        to_node: u64,
        to: u64,
        to_offset: u64,
        length: u64,
        flags: u64,
    }
}

impl GetattrIn {
    /// `FUSE_GETATTR_FH`: the handle counts.
    pub(crate) const HANDLE: u32 = 1 << 0;
}

impl FsyncIn {
    /// `FUSE_FSYNC_FDATASYNC`.
    pub(crate) const ONLY_DATA: u32 = 1 << 0;
}

impl SetxattrMore {
    /// `FUSE_SETXATTR_ACL_KILL_SGID`: whoever sets the ACL is not in the file's group.
    pub(crate) const CLEAR_SGID: u32 = 1 << 0;
}

impl SetattrIn {
    /// `FATTR_*`.
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const HANDLE: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
}
