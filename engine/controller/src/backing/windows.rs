//! A command's memory as windows, for backings that hand it on.

use std::sync::Arc;

use engine_block::{Window, Windows};
use engine_dma::{Access, Mapping, Region};
use engine_nvme_spec::Status;

use super::Memory;

/// Where bytes go that nobody wants: memory that is written and never read, made when it is first needed.
#[derive(Debug, Default)]
pub struct BitBucket(Option<Arc<Mapping>>);

impl BitBucket {
    fn room_for(&mut self, length: usize) -> Result<Arc<Mapping>, Status> {
        if let Some(large) = self.0.as_ref().filter(|mapping| mapping.region().length() >= length) {
            return Ok(Arc::clone(large));
        }
        let region = Region::private(length).map_err(|_| Status::INTERNAL_ERROR)?;
        Ok(Arc::clone(self.0.insert(Mapping::whole(region))))
    }
}

impl Memory<'_> {
    /// All of it, piece by piece; what is not wanted goes to `bucket`.
    ///
    /// # Errors
    /// Data Transfer Error where some of it cannot be reached, Internal Error where there is no memory for the bucket.
    pub fn windows(&mut self, access: Access, bucket: &mut BitBucket) -> Result<Windows, Status> {
        let mut windows = Windows::new();
        self.pieces(access, |place, length| {
            let (mapping, offset) = match place {
                Some((mapping, offset)) => (Arc::clone(mapping), offset),
                None => (bucket.room_for(length)?, 0),
            };
            windows.push(Window { mapping, offset, length });
            Ok(())
        })?;
        Ok(windows)
    }
}
