//! The socket that clients connect to, as a file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, Stat, fchmod, lstat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// How many clients may wait.
const WAITING: i32 = 16;

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
        bind(&socket, &address).map_err(|errno| match errno {
            Errno::ADDRINUSE => ListenError::InUse { path: path.clone() },
            other => failed("make the socket")(other),
        })?;
        let file = lstat(&path).map_err(failed("look at"))?;
        listen(&socket, WAITING).map_err(failed("listen at"))?;
        Ok(Self { socket, file: identity(&file), path })
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

fn identity(file: &Stat) -> (u64, u64) {
    (file.st_dev, file.st_ino)
}
