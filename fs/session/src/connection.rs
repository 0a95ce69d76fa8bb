//! An open `/dev/fuse`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::ioctls;
use crate::reply::slices;
use crate::wire::{ForgetContents, OutHeader};

/// A connection to the kernel's FUSE: what is mounted with its descriptor is answered over it.
#[derive(Debug)]
pub struct Connection {
    device: File,
}

impl Connection {
    /// Opens a new one.
    ///
    /// # Errors
    /// Where the device is missing or closed to us.
    pub fn open() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { device: open_device()? }))
    }

    /// Takes one that was opened, and may be mounted, already.
    #[must_use]
    pub fn from_fd(device: OwnedFd) -> Arc<Self> {
        Arc::new(Self { device: device.into() })
    }

    /// A further way to the same connection, so that threads do not wait for each other.
    pub(crate) fn another(&self) -> io::Result<File> {
        let fresh = open_device()?;
        ioctls::join(fresh.as_fd(), self.device.as_fd())?;
        Ok(fresh)
    }

    pub(crate) fn device(&self) -> &File {
        &self.device
    }

    /// Lets the kernel forget a node's attributes, and what it has cached of `length` bytes from `offset` on: to the end
    /// with length 0, nothing with offset -1.
    ///
    /// # Errors
    /// `ENOENT` where the kernel does not know the node.
    pub fn forget_contents(&self, node: u64, offset: i64, length: i64) -> io::Result<()> {
        let body = ForgetContents { node, offset, length };
        let length = size_of::<OutHeader>() + size_of::<ForgetContents>();
        let length = u32::try_from(length).map_err(io::Error::other)?;
        let header = OutHeader { length, error: ForgetContents::CODE, unique: 0 };
        rustix::io::writev(&self.device, &slices(&header, [body.as_bytes(), &[]]))?;
        Ok(())
    }

    /// Registers a file that the kernel may read and write by itself (`FUSE_PASSTHROUGH`). It opens the file anew, as
    /// whoever this thread acts for.
    ///
    /// # Errors
    /// Where the kernel refuses the file.
    pub fn back(self: &Arc<Self>, file: BorrowedFd<'_>) -> io::Result<Backing> {
        let number = ioctls::open_backing(self.device.as_fd(), file)?;
        Ok(Backing { connection: Arc::clone(self), number })
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse")
}

/// A registered file. It is to live until the last open that was given it is released.
#[derive(Debug)]
pub struct Backing {
    connection: Arc<Connection>,
    number: i32,
}

impl Backing {
    pub(crate) fn number(&self) -> i32 {
        self.number
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // The connection may be gone, and the registration with it.
        let _ = ioctls::close_backing(self.connection.as_fd(), self.number);
    }
}
