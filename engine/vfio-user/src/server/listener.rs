//! The socket that clients connect to, as a file.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, Stat, fchmod, lstat, rename, renameat_with, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// How many clients may wait.
const WAITING: i32 = 16;
/// Names that are tried for a socket that does not listen yet.
const TRIES: u32 = 100;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens at the socket.
    #[error("somebody already listens at {path}: stop that, or choose another path")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket lies there.
    #[error("{path} is there and is not a socket: choose another path")]
    NotASocket {
        /// What lies there.
        path: PathBuf,
    },
    /// The path is longer than a socket's can be.
    #[error("{path} is longer than the 107 bytes that a socket's path can have")]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
}

/// A socket that listens; the file is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path`, or at `cntrl` in it where it is a directory.
    pub(crate) fn bind(path: &Path) -> Result<Self, ListenError> {
        let path = if path.is_dir() { path.join("cntrl") } else { path.to_owned() };
        let failed = |action| {
            let path = path.clone();
            move |errno: Errno| ListenError::System { action, path, source: errno.into() }
        };
        let address = SocketAddrUnix::new(&path).map_err(|errno| match errno {
            Errno::NAMETOOLONG => ListenError::TooLong { path: path.clone() },
            other => failed("use the path")(other),
        })?;
        clear(&path, &address)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.map_err(failed("make a socket for"))?;
        // The file gets the mode that the socket has at this moment: only the owner may connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(failed("set the mode of"))?;
        // A socket that is there is one that answers: it gets its name when it listens. Who waits for the file may connect
        // at once, and nobody takes it for what a dead server left behind.
        let early = bind_early(&socket, &path).map_err(failed("make the socket"))?;
        let named = listen(&socket, WAITING)
            .map_err(failed("listen at"))
            .and_then(|()| lstat(&early).map_err(failed("look at")))
            .and_then(|file| {
                name(&early, &path).map(|()| identity(&file)).map_err(|errno| match errno {
                    Errno::EXIST => ListenError::InUse { path: path.clone() },
                    other => failed("make the socket")(other),
                })
            });
        match named {
            Ok(file) => Ok(Self { socket, path, file }),
            Err(error) => {
                let _ = unlink(&early);
                Err(error)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a client; false where `stop` became readable.
    pub(crate) fn wait(&self, stop: BorrowedFd<'_>) -> Result<bool, Errno> {
        loop {
            let mut polled =
                [PollFd::from_borrowed_fd(stop, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) => {
                    let [stopped, _] = polled;
                    return Ok(stopped.revents().is_empty());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if lstat(&self.path).is_ok_and(|file| identity(&file) == self.file) {
            let _ = unlink(&self.path);
        }
    }
}

/// Removes a socket that nobody listens at.
fn clear(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let failed = |action| {
        move |errno: Errno| ListenError::System { action, path: path.to_owned(), source: errno.into() }
    };
    let file = match lstat(path) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("look at")(errno)),
    };
    if FileType::from_raw_mode(file.st_mode) != FileType::Socket {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    match connect(socket.map_err(failed("make a socket for"))?, address) {
        Err(Errno::CONNREFUSED) => unlink(path).map_err(failed("remove what is left of")),
        // Full, of another kind, not allowed: somebody is there.
        _ => Err(ListenError::InUse { path: path.to_owned() }),
    }
}

/// Gives a socket a name in the folder of its own, no longer than that, which may have all the bytes that a socket's path can
/// have; the path.
fn bind_early(socket: &OwnedFd, path: &Path) -> Result<PathBuf, Errno> {
    let length = path.file_name().map_or(0, OsStr::len).max(2);
    let mut tries = 0;
    loop {
        let mut name = format!(".{:016x}", RandomState::new().build_hasher().finish());
        name.truncate(length);
        let early = path.with_file_name(name);
        match bind(socket, &SocketAddrUnix::new(&early)?) {
            Ok(()) => return Ok(early),
            // Somebody else's.
            Err(Errno::ADDRINUSE) if tries < TRIES => tries += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives a file its name where nothing has it.
fn name(early: &Path, path: &Path) -> Result<(), Errno> {
    match renameat_with(CWD, early, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot look and rename in one step.
        Err(Errno::INVAL) => rename(early, path),
        done => done,
    }
}

fn identity(file: &Stat) -> (u64, u64) {
    (file.st_dev, file.st_ino)
}
