//! What answers carry after their header, but for attributes and entries.

structures! {
    /// `struct fuse_open_out`.
    OpenOut (16) { handle: u64, flags: u32, backing: i32, }
    /// `struct fuse_write_out`.
    WriteOut (8) { size: u32, padding: u32, }
    /// `struct fuse_copy_file_range_out`.
    CopyFileRangeOut (8) { copied: u64, }
    /// `struct fuse_getxattr_out`.
    GetxattrOut (8) { size: u32, padding: u32, }
    /// `struct fuse_ioctl_out`; the argument follows.
    IoctlOut (16) { result: i32, flags: u32, in_vectors: u32, out_vectors: u32, }
    /// `struct fuse_lseek_out`.
    LseekOut (8) { offset: u64, }
    /// `struct fuse_kstatfs`.
    StatfsOut (80) {
        blocks: u64,
        free: u64,
        available: u64,
        files: u64,
        files_free: u64,
        block_size: u32,
        name_length: u32,
        fragment_size: u32,
        padding: u32,
        spare: [u32; 6],
    }
}
