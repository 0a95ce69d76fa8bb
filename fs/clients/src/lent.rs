//! Memory that a client lends as the target of commands.

use std::os::fd::OwnedFd;

use engine_block::BlockDevice;
use engine_dma::DmaBufAccess;
use homi_abi::session::{BUFFER_DMABUF, BUFFER_HOST};
use rustix::fs::{SealFlags, fcntl_get_seals};

use crate::refusal::Refusal;

/// What memory it is.
#[derive(Debug)]
pub(crate) enum Lent {
    /// A memfd that nobody can make shorter.
    Host,
    /// Somebody's dma-buf, to which the processor has access meanwhile. They cannot become shorter.
    DmaBuf { _access: DmaBufAccess },
}

impl Lent {
    /// Looks at a descriptor whose `length` bytes from `offset` on an engine is to write.
    pub(crate) fn of(
        memory: &OwnedFd,
        offset: u64,
        length: u64,
        device: &dyn BlockDevice,
    ) -> Result<Self, Refusal> {
        if DmaBufAccess::is_one(memory) {
            return Self::dma_buf(memory, offset, length, device);
        }
        if fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
            return Ok(Self::Host);
        }
        let text =
            "the memory is neither a memfd that is sealed against shrinking (F_SEAL_SHRINK) nor a dma-buf";
        Err(Refusal::new(libc::EPERM, text.into()))
    }

    /// A dma-buf is written through a mapping, by the processor. Where an engine hands addresses to the kernel or to a
    /// device, it would need pages or bus addresses, which a mapping of another driver's memory does not have.
    fn dma_buf(
        memory: &OwnedFd,
        offset: u64,
        length: u64,
        device: &dyn BlockDevice,
    ) -> Result<Self, Refusal> {
        let advice = "register host memory, and copy on from there";
        // Elsewhere devices need not see what a processor wrote until its access ends.
        if !device.copies_now() || !cfg!(target_arch = "x86_64") {
            let text = format!(
                "this daemon's engine ({}) cannot write to device memory (a dma-buf): {advice}",
                device.info().path
            );
            return Err(Refusal::new(libc::EOPNOTSUPP, text));
        }
        let access = DmaBufAccess::begin(memory).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Refusal::new(errno, format!("the dma-buf gives the processor no access ({error}): {advice}"))
        })?;
        if offset.checked_add(length).is_none_or(|end| end > access.bytes()) {
            let text = format!("the dma-buf has {} bytes, fewer than were named", access.bytes());
            return Err(Refusal::new(libc::EINVAL, text));
        }
        Ok(Self::DmaBuf { _access: access })
    }

    /// What the client is told where the memory cannot be mapped. Drivers of accelerators export memory that no processor
    /// reaches, and say so (`ENOTSUPP`, a number of the kernel's own) only then.
    pub(crate) fn not_mapped(&self, error: std::io::Error) -> Refusal {
        match self {
            Self::Host => Refusal::from_system(error),
            Self::DmaBuf { .. } => Refusal::new(
                libc::EOPNOTSUPP,
                format!(
                    "the dma-buf's driver lets no processor reach it ({error}): register host memory, and copy on from there"
                ),
            ),
        }
    }

    /// The word for it that the client is told.
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Host => BUFFER_HOST,
            Self::DmaBuf { .. } => BUFFER_DMABUF,
        }
    }
}
