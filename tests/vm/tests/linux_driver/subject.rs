//! The controller under test, and the image behind it.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// What the host does to the controller's namespaces.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NamespaceChange {
    /// A second one appears.
    Add,
    /// The second one goes.
    Remove,
}

/// A controller under test.
pub(crate) struct Subject<'a> {
    /// The image of its first namespace, of 512-byte blocks.
    pub(crate) image: &'a Path,
    /// Whether it must offer everything that is checked.
    pub(crate) complete: bool,
    /// Changes its namespaces.
    pub(crate) change: &'a mut dyn FnMut(NamespaceChange) -> Result<()>,
}

/// An image in which every 8 bytes tell where they are, so that a misplaced block shows.
pub(crate) fn patterned_image(mib: usize) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().prefix("homifs-vm-image-").tempfile()?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file());
    for word in 0..(mib << 20) / 8 {
        // Odd, so that no two words are the same and few bytes are.
        writer.write_all(&(word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())?;
    }
    writer.flush()?;
    drop(writer);
    Ok(file)
}
