//! The cpio archive by which files reach the guest: Linux unpacks every archive that its loader gives it, one after
//! another, so ours needs only what differs from boot to boot (kernel, `driver-api/early-userspace/buffer-format`).

use std::io::{self, Write};

/// A regular file, with no one else's right to write it.
const REGULAR: u32 = 0o100_755;
/// A folder, likewise.
const FOLDER: u32 = 0o040_755;

/// Writes an archive in the "newc" format.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive. It may follow another one in the same file at a multiple of four bytes.
    pub(crate) const fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// Adds a folder; its parent must be there already.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER, &[])
    }

    /// Adds a file that can be run.
    ///
    /// # Errors
    /// Where it cannot be written, or is of 4 GiB and more.
    pub(crate) fn file(&mut self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR, contents)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_large =
            |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} does not fit a cpio archive"));
        let size = u32::try_from(contents.len()).map_err(too_large)?;
        // With the zero that ends it.
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size, device (major, minor), of (major, minor), name's size, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        write!(self.to, "070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        write!(self.to, "{name}\0")?;
        // The header has 110 bytes.
        self.pad(110 + name.len() + 1)?;
        self.to.write_all(contents)?;
        self.pad(contents.len())
    }

    /// Fills up to a multiple of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros: &[u8] = match written % 4 {
            1 => &[0; 3],
            2 => &[0; 2],
            3 => &[0; 1],
            _ => &[],
        };
        self.to.write_all(zeros)
    }
}
