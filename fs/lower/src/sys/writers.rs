//! Whether anybody has a file open for writing, in whatever way.
//!
//! A mapping outlives the descriptor that it was made from, and FUSE says that a file was closed when the descriptor is. The
//! kernel knows: it gives a read lease (`F_SETLEASE`, fcntl(2)) on no file that somebody could write, and a mapping counts.

use std::os::fd::{AsFd, AsRawFd};

use super::checked;

/// Whether the file may be written by somebody. `true` also where the kernel cannot tell: no leases are to be had
/// (`/proc/sys/fs/leases-enable`).
pub(crate) fn may_be_written(file: impl AsFd) -> bool {
    let file = file.as_fd().as_raw_fd();
    let set = |command, argument: libc::c_int| {
        // SAFETY: these commands take a number and touch no memory.
        checked(libc::c_long::from(unsafe { libc::fcntl(file, command, argument) }))
    };
    // Who opens the file for writing between the two calls makes the kernel send a signal, and waits for the second. The
    // usual one would end the process; this one is ignored by whoever does not ask for it.
    const F_SETSIG: libc::c_int = 10;
    let leased = set(F_SETSIG, libc::SIGURG).and_then(|_| set(libc::F_SETLEASE, libc::F_RDLCK));
    leased.and_then(|_| set(libc::F_SETLEASE, libc::F_UNLCK)).is_err()
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    #[test]
    fn file_is_written_while_it_is_open_for_writing_or_mapped() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let reader = File::open(&path).unwrap();
        assert!(!may_be_written(&reader));
        let writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(may_be_written(&reader));
        writer.set_len(4096).unwrap();
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place of the kernel's choice, that nobody looks at.
        let mapped = unsafe { mmap(std::ptr::null_mut(), 4096, both, MapFlags::SHARED, &writer, 0) }.unwrap();
        drop(writer);
        assert!(may_be_written(&reader));
        // SAFETY: it was made above.
        unsafe { munmap(mapped, 4096) }.unwrap();
        assert!(!may_be_written(&reader));
    }
}
