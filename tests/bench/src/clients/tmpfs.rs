//! An image in tmpfs with one large file, and the same over it as a mount has, but for the mount itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use engine_dma::{Access, PAGE, Region};
use engine_open::{OpenOptions, open};
use homifs_core::{Homifs, VolumeParts};
use homifs_options::MountOptions;

use crate::arguments::ClientArguments;
use crate::generator::Generator;
use crate::samples::Samples;

/// Where images lie.
const MEMORY: &str = "/dev/shm";

/// An ext4 image with one file, `large`.
pub(crate) struct TmpfsImage {
    path: PathBuf,
    /// What the file holds.
    pub(super) large: File,
    _folder: tempfile::TempDir,
}

impl TmpfsImage {
    pub(crate) fn new(data_mib: u64) -> Result<Self> {
        let folder = tempfile::tempdir_in(MEMORY).context("tmpfs is needed at /dev/shm")?;
        let path = folder.path().join("image");
        Ok(Self { large: fill(&path, data_mib)?, path, _folder: folder })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Serves it by the engine that a mount would take.
    pub(super) fn mount(&self) -> Result<Arc<Homifs>> {
        let spec = self.path.to_str().context("a path that is no text")?;
        let device = open(spec, &OpenOptions::default())?;
        let image = ImageFile(File::open(&self.path)?);
        let fs = Arc::new(extents_ext4::Ext4::open(image, &extents_ext4::OpenOptions::default())?);
        Ok(Homifs::new(VolumeParts { fs, device, start: 0 }, spec.into(), MountOptions::default()))
    }
}

/// Nanoseconds for each copy of 4 KiB from anywhere in the image to where the commands of a client would have it.
pub(super) fn copies(image: &TmpfsImage, arguments: &ClientArguments) -> Result<Samples> {
    let file = File::options().read(true).write(true).open(&image.path)?;
    let length = usize::try_from(file.metadata()?.len())? / PAGE * PAGE;
    let source = Region::map(file.into(), 0, length, Access::Read)?;
    let target = Region::shared(c"target", 1 << 20)?;
    let mut generator = Generator::new(3);
    let mut samples = Samples::default();
    for _ in 0..arguments.rounds {
        let places: Vec<usize> = (0..arguments.commands)
            .map(|_| usize::try_from(generator.next() % (length as u64 / 512 - 8)).map(|block| block * 512))
            .collect::<Result<_, _>>()?;
        let start = Instant::now();
        for (number, place) in places.iter().enumerate() {
            source.copy_to(*place, &target, number % 256 * 4096, 4096)?;
        }
        samples.push(start.elapsed().as_secs_f64() * 1e9 / places.len() as f64);
    }
    Ok(samples)
}

fn fill(image: &Path, data_mib: u64) -> Result<File> {
    let tree = image.with_file_name("tree");
    std::fs::create_dir(&tree)?;
    let mut generator = Generator::new(11);
    let mut bytes = vec![0; 1 << 20];
    let large =
        File::options().create(true).write(true).read(true).truncate(true).open(tree.join("large"))?;
    for part in 0..data_mib {
        generator.fill(&mut bytes);
        large.write_all_at(&bytes, part << 20)?;
    }
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .arg(&tree)
        .arg(image)
        .arg(format!("{}M", data_mib + data_mib / 8 + 64))
        .output()
        .context("mkfs.ext4 is needed")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(large)
}

/// The image, for the parser.
struct ImageFile(File);

impl extents_core::BlockRead for ImageFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), extents_core::ReadError> {
        let length = buf.len() as u64;
        self.0.read_exact_at(buf, offset).map_err(|_| extents_core::ReadError::io(offset, length))
    }

    fn size(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}
