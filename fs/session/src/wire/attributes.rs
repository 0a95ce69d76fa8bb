//! Attributes and entries.

structures! {
    /// `struct fuse_attr`.
    Attr (88) {
        ino: u64,
        size: u64,
        blocks: u64,
        atime: i64,
        mtime: i64,
        ctime: i64,
        atime_nanoseconds: u32,
        mtime_nanoseconds: u32,
        ctime_nanoseconds: u32,
        mode: u32,
        links: u32,
        uid: u32,
        gid: u32,
        device: u32,
        block_size: u32,
        flags: u32,
    }
    /// `struct fuse_entry_out`.
    EntryOut (128) {
        node: u64,
        generation: u64,
        name_valid: u64,
        attributes_valid: u64,
        name_valid_nanoseconds: u32,
        attributes_valid_nanoseconds: u32,
        attributes: Attr,
    }
    /// `struct fuse_attr_out`.
    AttrOut (104) { valid: u64, valid_nanoseconds: u32, padding: u32, attributes: Attr, }
    /// `struct fuse_sx_time`.
    StatxTime (16) { seconds: i64, nanoseconds: u32, reserved: i32, }
    /// `struct fuse_statx`.
    Statx (256) {
        mask: u32,
        block_size: u32,
        attributes: u64,
        links: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: StatxTime,
        btime: StatxTime,
        ctime: StatxTime,
        mtime: StatxTime,
        device_major: u32,
        device_minor: u32,
        volume_major: u32,
        volume_minor: u32,
        spare2: [u64; 14],
    }
    /// `struct fuse_statx_out`.
    StatxOut (288) { valid: u64, valid_nanoseconds: u32, flags: u32, spare: [u64; 2], found: Statx, }
    /// `struct fuse_dirent`; the name follows, and zeros up to a multiple of 8 bytes.
    Dirent (24) { ino: u64, next: u64, name_length: u32, kind: u32, }
}
