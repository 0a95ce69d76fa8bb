//! Files read by whichever path serves them, and which one that is.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::fs::fstat;

use crate::extents::ExtentMap;
use crate::target::Target;
use crate::{ClientError, NvmeStatus, OpenFile};

/// Whether files that cannot be read by queues may be read by pread(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// They are refused.
    Refuse,
    /// They are read by pread(2), and [`ServedFile::why`] tells the reason.
    Pread,
}

/// The path that reads take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServedBy {
    /// NVMe commands in queues that the daemon serves.
    Queues,
    /// pread(2) of the open file.
    Pread,
}

impl ServedBy {
    /// The path as one word: `queues` or `pread`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::Pread => "pread",
        }
    }
}

/// A file that a [`Client`](crate::Client) opened.
#[derive(Debug)]
pub struct ServedFile {
    // Given back before the file is closed.
    opened: Option<OpenFile>,
    file: fs::File,
    fallback: Fallback,
    /// Why pread(2) serves it.
    why: OnceLock<String>,
    size: u64,
    block_size: u32,
    generation: Option<u64>,
}

impl ServedFile {
    pub(crate) fn by_queues(file: fs::File, opened: OpenFile, fallback: Fallback) -> Self {
        let (size, block_size, generation) = (opened.size(), opened.block_size(), opened.generation());
        Self {
            opened: Some(opened),
            file,
            fallback,
            why: OnceLock::new(),
            size,
            block_size,
            generation: Some(generation),
        }
    }

    pub(crate) fn by_pread(file: fs::File, why: String) -> Result<Self, ClientError> {
        let stat = fstat(&file).map_err(ClientError::system("get the size of the file"))?;
        let generation = ExtentMap::of_file(&file).ok().map(|map| map.generation);
        Ok(Self {
            opened: None,
            file,
            fallback: Fallback::Pread,
            why: OnceLock::from(why),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            block_size: u32::try_from(stat.st_blksize).unwrap_or(4096),
            generation,
        })
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// The generation of the file when it was opened; none where it lies on no mount of homifs.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Where its bytes lie, as of now.
    ///
    /// # Errors
    /// As [`ExtentMap::of_file`].
    pub fn extents(&self) -> Result<ExtentMap, ClientError> {
        ExtentMap::of_file(&self.file)
    }

    /// Which path serves it. One that was served by queues is served by pread(2) after its blocks were taken back, where
    /// that is allowed.
    #[must_use]
    pub fn served_by(&self) -> ServedBy {
        match self.namespace() {
            Some(_) => ServedBy::Queues,
            None => ServedBy::Pread,
        }
    }

    /// Why it is not served by queues; empty where it is.
    #[must_use]
    pub fn why(&self) -> &str {
        self.why.get().map_or("", String::as_str)
    }

    /// The namespace that queues name it by, for those who fill queues of their own.
    #[must_use]
    pub fn namespace(&self) -> Option<&OpenFile> {
        self.opened.as_ref().filter(|_| self.why.get().is_none())
    }

    /// The descriptor that it was opened with.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether a read that failed by queues is to be tried by pread(2), which serves the file from now on.
    pub(crate) fn falls_back(&self, error: &ClientError) -> bool {
        let taken_back = matches!(error, ClientError::Command { status, .. }
            if status.code() == NvmeStatus::NAMESPACE_NOT_READY);
        if taken_back && self.fallback == Fallback::Pread {
            self.why.get_or_init(|| "its blocks were taken back from the queues".into());
        }
        self.why.get().is_some()
    }

    /// Reads by pread(2); how many bytes there were.
    pub(crate) fn pread(&self, offset: u64, target: &mut Target<'_>) -> Result<usize, ClientError> {
        let mut done = 0;
        while done < target.length() {
            let Some(at) = u64::try_from(done).ok().and_then(|done| offset.checked_add(done)) else { break };
            // No file reaches there.
            if i64::try_from(at).is_err() {
                break;
            }
            let read = target.fill_by(done, |part| {
                loop {
                    match rustix::io::pread(&self.file, &mut *part, at) {
                        Ok((read, _)) => break Ok(read.len()),
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => break Err(ClientError::system("read the file")(error)),
                    }
                }
            })?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }
}
