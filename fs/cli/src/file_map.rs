//! The extent map of a file, whichever way it was learnt.

use std::ffi::OsStr;
use std::path::Path;

use extents_core::{ExtentFlags, ExtentMap};
use homi_abi::extents as abi;
use rustix::io::Errno;
use serde::Serialize;

use crate::Result;
use crate::failure::Failure;

/// A file's map.
#[derive(Debug, Serialize)]
pub(crate) struct FileMap {
    pub(crate) path: String,
    pub(crate) generation: u64,
    pub(crate) block_size_bytes: u32,
    pub(crate) file_size_bytes: u64,
    pub(crate) volume_start_bytes: u64,
    pub(crate) extents: Vec<MappedExtent>,
}

/// One extent of it.
#[derive(Debug, Serialize)]
pub(crate) struct MappedExtent {
    pub(crate) logical_bytes: u64,
    pub(crate) physical_bytes: u64,
    pub(crate) length_bytes: u64,
    pub(crate) flags: Vec<&'static str>,
}

impl FileMap {
    /// From the volume's reader.
    pub(crate) fn new(path: &Path, map: &ExtentMap, block_size: u32, volume_start: u64) -> Self {
        let extents = map.iter().map(|extent| MappedExtent {
            logical_bytes: extent.logical,
            physical_bytes: extent.physical,
            length_bytes: extent.length,
            flags: homifs_core::flag_names(extent.flags),
        });
        Self {
            path: path.to_string_lossy().into_owned(),
            generation: map.generation(),
            block_size_bytes: block_size,
            file_size_bytes: map.size(),
            volume_start_bytes: volume_start,
            extents: extents.collect(),
        }
    }

    /// From the attribute `homi.extents` of a file on a mount, in as many parts as it comes in.
    pub(crate) fn of_mounted(path: &Path) -> Result<Self> {
        let mut map: Option<Self> = None;
        loop {
            let have = map.as_ref().map_or(0, |map| map.extents.len());
            let name = if have == 0 { "homi.extents".to_owned() } else { format!("homi.extents@{have}") };
            let bytes = attribute(path, &name)?;
            let told = |error: abi::DecodeError| Failure::plain(format!("{}: {error}", path.display()));
            let (header, entries) = abi::decode(&bytes).map_err(told)?;
            let whole = map.get_or_insert_with(|| Self {
                path: path.to_string_lossy().into_owned(),
                generation: header.generation.get(),
                block_size_bytes: header.block_size.get(),
                file_size_bytes: header.file_size.get(),
                volume_start_bytes: header.volume_start.get(),
                extents: Vec::new(),
            });
            if header.generation.get() != whole.generation {
                return Err(Failure::plain(format!("{} was replaced meanwhile; try again", path.display())));
            }
            whole.extents.extend(entries.map(|entry| MappedExtent {
                logical_bytes: entry.logical.get(),
                physical_bytes: entry.physical.get(),
                length_bytes: entry.length.get(),
                flags: homifs_core::flag_names(flags(entry.flags.get())),
            }));
            let more = header.flags.get() & abi::MORE != 0;
            // A part that brings nothing would be asked for for ever.
            if let Some(whole) = map.take_if(|whole| !more || whole.extents.len() == have) {
                return Ok(whole);
            }
        }
    }
}

fn flags(bits: u32) -> ExtentFlags {
    let known = [
        (abi::UNWRITTEN, ExtentFlags::UNWRITTEN),
        (abi::INLINE, ExtentFlags::INLINE),
        (abi::SHARED, ExtentFlags::SHARED),
        (abi::ENCODED, ExtentFlags::ENCODED),
    ];
    known.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).collect()
}

fn attribute(path: &Path, name: &str) -> Result<Vec<u8>> {
    // The largest that an attribute can be (include/uapi/linux/limits.h: XATTR_SIZE_MAX).
    let mut value = vec![0; 65536];
    match rustix::fs::getxattr(path, OsStr::new(name), &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(value)
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Err(Failure::plain(format!(
            "{} has no extent map: it is no regular file on a homifs mount (for a volume that is not mounted, give \
             --device)",
            path.display()
        ))),
        Err(error) => Err(Failure::io(path.display(), &error.into())),
    }
}
