//! A device as the gpt crate wants it, with a limit on what it may read.
//!
//! That crate trusts a header whose checksum is right, and whoever makes a table makes its checksum: it reads as many
//! entries as the header says, then takes memory for all of them, and it asserts that an entry has 128 bytes. Here
//! the reading ends long before the memory would be taken, and a header with other entries is an error.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};

use extents_core::{BlockRead, to_u64, to_usize};

/// What reading one table may touch, in bytes: 128 entries take 32 KiB of it, being read twice.
const BUDGET: u64 = 2 << 20;

pub(crate) struct Guarded<'a, R: ?Sized> {
    device: &'a R,
    position: u64,
    budget: u64,
    /// A byte at which no header shall be found, for a second look with the other one.
    hidden: Option<u64>,
}

impl<'a, R: BlockRead + ?Sized> Guarded<'a, R> {
    pub(crate) fn new(device: &'a R, hidden: Option<u64>) -> Self {
        Self { device, position: 0, budget: BUDGET, hidden }
    }
}

// Wanted by gpt's DiskDevice.
impl<R: ?Sized> std::fmt::Debug for Guarded<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<R: BlockRead + ?Sized> Read for Guarded<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let left = self.device.size().saturating_sub(self.position);
        let length = to_u64(buf.len()).min(left);
        self.budget = self
            .budget
            .checked_sub(length)
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "the partition table is unreasonably large"))?;
        let Some(target) = buf.get_mut(..to_usize(length)) else { return Ok(0) };
        self.device.read_at(self.position, target).map_err(|error| Error::from_raw_os_error(error.errno))?;
        if self.hidden == Some(self.position) {
            target.fill(0);
        }
        // UEFI 2.10, table 5.5: signature at 0, size of an entry at 84.
        if target.starts_with(b"EFI PART")
            && target.get(84..88).is_some_and(|size| size != 128_u32.to_le_bytes())
        {
            return Err(Error::new(ErrorKind::InvalidData, "entries of another size than 128 bytes"));
        }
        self.position += length;
        Ok(to_usize(length))
    }
}

impl<R: BlockRead + ?Sized> Seek for Guarded<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.device.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl<R: ?Sized> Write for Guarded<'_, R> {
    fn write(&mut self, _: &[u8]) -> Result<usize> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
