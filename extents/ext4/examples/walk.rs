//! Walks a whole volume, reading every name, every inode and every extent map, and prints how fast that went.
//!
//! ```text
//! walk IMAGE [ROUNDS]           names, inodes and maps
//! walk IMAGE lookup DIRECTORY   every name of one directory, looked up in a scattered order
//! ```
//! The image is a file or block device. Run it twice, or give rounds, to read from the page cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use extents_core::{BlockRead, FileSystem, FileType, Flow, Ino, ReadError, to_u64};
use extents_ext4::{Ext4, OpenOptions};

struct FileDevice(File);

impl BlockRead for FileDevice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = to_u64(buf.len());
        self.0.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, length))
    }

    fn size(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [image] => walk(image, 3),
        [image, "lookup", directory] => lookup(image, directory),
        [image, rounds] => walk(image, rounds.parse()?),
        _ => Err("usage: walk IMAGE [ROUNDS] | walk IMAGE lookup DIRECTORY".into()),
    }
}

fn open(image: &str) -> Result<Ext4, Error> {
    let options = OpenOptions { cache_bytes: 64 << 20, ..OpenOptions::default() };
    Ok(Ext4::open(FileDevice(File::open(image)?), &options)?)
}

/// CPU time of this thread, which other work on the machine does not lengthen.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Each round opens the volume anew, so that its caches are empty and only the page cache is warm.
fn walk(image: &str, rounds: u32) -> Result<(), Error> {
    for round in 1..=rounds {
        let volume = open(image)?;
        let (start, start_cpu) = (Instant::now(), cpu());
        let (mut inodes, mut extents, mut sectors) = (0_u64, 0_u64, 0_u64);
        let mut waiting = vec![volume.root()];
        let mut found = Vec::new();
        while let Some(dir) = waiting.pop() {
            volume.read_dir(dir, 0, &mut |entry| {
                if !matches!(entry.name, b"." | b"..") {
                    found.push(entry.ino);
                }
                Flow::Continue(())
            })?;
            for ino in found.drain(..) {
                let (metadata, map) = volume.inspect(ino)?;
                inodes += 1;
                extents += to_u64(map.len());
                sectors += metadata.sectors;
                if metadata.file_type == FileType::Directory {
                    waiting.push(ino);
                }
            }
        }
        let (wall, cpu) = (start.elapsed(), cpu() - start_cpu);
        println!(
            "round {round}: {inodes} inodes, {extents} extents, {sectors} sectors in {wall:.2?} ({cpu:.2?} of CPU): \
             {:.2} M inodes a second of CPU",
            inodes as f64 / cpu.as_secs_f64() / 1e6
        );
    }
    Ok(())
}

fn lookup(image: &str, directory: &str) -> Result<(), Error> {
    let volume = open(image)?;
    let mut dir = volume.root();
    for part in directory.split('/').filter(|part| !part.is_empty()) {
        dir = volume.lookup(dir, part.as_bytes())?.ok_or("no such directory")?;
    }
    let mut names: Vec<(Vec<u8>, Ino)> = Vec::new();
    volume.read_dir(dir, 0, &mut |entry| {
        names.push((entry.name.to_vec(), entry.ino));
        Flow::Continue(())
    })?;
    // A multiplier without a common factor with the count visits all, far from each other.
    let scattered = |step: usize| (step * 611_953) % names.len();
    for round in 1..=4 {
        let start = cpu();
        for step in 0..names.len() {
            let (name, ino) = &names[scattered(step)];
            assert_eq!(volume.lookup(dir, name)?, Some(*ino));
        }
        let each = (cpu() - start) / u32::try_from(names.len())?;
        println!("round {round}: {} names, {each:.0?} of CPU each", names.len());
    }
    Ok(())
}
