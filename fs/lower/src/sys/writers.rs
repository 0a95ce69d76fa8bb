//! Whether anybody has a file open, for writing or at all, in whatever way.
//!
//! A mapping outlives the descriptor that it was made from, and FUSE says that a file was closed when the descriptor is. The
//! kernel knows: it gives a read lease (`F_SETLEASE`, fcntl(2)) on no file that somebody could write, and a mapping counts.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::Errno;

use super::checked;

/// Sets a lease on a file, or gives it back.
///
/// Who opens the file meanwhile in a way that does not go with it makes the kernel send a signal, and waits until it is given
/// back. The usual signal would end the process; this one is ignored by whoever does not ask for it.
fn lease(file: RawFd, kind: libc::c_int) -> Result<(), Errno> {
    const F_SETSIG: libc::c_int = 10;
    let set = |command, argument: libc::c_int| {
        // SAFETY: these commands take a number and touch no memory.
        checked(libc::c_long::from(unsafe { libc::fcntl(file, command, argument) })).map(drop)
    };
    set(F_SETSIG, libc::SIGURG)?;
    set(libc::F_SETLEASE, kind)
}

/// Whether the file may be written by somebody. `true` also where the kernel cannot tell: no leases are to be had
/// (`/proc/sys/fs/leases-enable`).
pub(crate) fn may_be_written(file: impl AsFd) -> bool {
    let file = file.as_fd().as_raw_fd();
    lease(file, libc::F_RDLCK).and_then(|()| lease(file, libc::F_UNLCK)).is_err()
}

/// Does something while nobody else has the file open or mapped, and nobody can open it; nothing where somebody has, or the
/// kernel cannot tell. `file` is to be the only descriptor of its open file, and writable.
pub(crate) fn while_alone<T>(file: impl AsFd, step: impl FnOnce() -> T) -> Option<T> {
    let file = file.as_fd().as_raw_fd();
    lease(file, libc::F_WRLCK).ok()?;
    let done = step();
    // The lease also ends with the file.
    let _ = lease(file, libc::F_UNLCK);
    Some(done)
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

    #[test]
    fn nobody_is_alone_with_a_file_that_another_has_open_or_mapped() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        writer.set_len(4096).unwrap();
        assert_eq!(while_alone(&writer, || 7), Some(7));
        let reader = File::open(&path).unwrap();
        assert_eq!(while_alone(&writer, || 7), None);
        // SAFETY: a new mapping, at a place of the kernel's choice, that nobody looks at.
        let mapped =
            unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, &reader, 0) }
                .unwrap();
        drop(reader);
        assert_eq!(while_alone(&writer, || 7), None);
        // SAFETY: it was made above.
        unsafe { munmap(mapped, 4096) }.unwrap();
        assert_eq!(while_alone(&writer, || 7), Some(7));
    }
}
