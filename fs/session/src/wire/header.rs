//! What every request and every answer begins with.

structures! {
    /// `struct fuse_in_header`.
    InHeader (40) {
        length: u32,
        opcode: u32,
        // Names the request in its answer.
        unique: u64,
        node: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        // Of extensions after the arguments, in units of 8 bytes.
        extension_length: u16,
        padding: u16,
    }
    /// `struct fuse_out_header`.
    OutHeader (16) {
        length: u32,
        // A negated errno; in a notification, which has no request, its code.
        error: i32,
        unique: u64,
    }
    /// `struct fuse_notify_inval_inode_out`.
    ForgetContents (24) { node: u64, offset: i64, length: i64, }
}

impl ForgetContents {
    /// `FUSE_NOTIFY_INVAL_INODE`.
    pub(crate) const CODE: i32 = 2;
}
