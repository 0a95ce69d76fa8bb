//! Walks a whole volume, reading every directory and the map of every file, and prints how fast that went.
//!
//! `cargo run --release -p extents-xfs --example walk_xfs -- disk.img [rounds]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use extents_core::{BlockRead, Error, FileSystem, Flow, Ino, ReadError, Result, to_u64};
use extents_xfs::{OpenOptions, Xfs};

struct Image {
    file: File,
    size: u64,
}

impl BlockRead for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, to_u64(buf.len())))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

#[derive(Default)]
struct Seen {
    inodes: u64,
    directories: u64,
    extents: u64,
    bytes: u64,
}

fn walk(volume: &Xfs) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut rest = vec![volume.root()];
    let mut inodes: Vec<Ino> = Vec::new();
    while let Some(directory) = rest.pop() {
        seen.directories += 1;
        volume.read_dir(directory, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                inodes.push(entry.ino);
            }
            Flow::Continue(())
        })?;
        for ino in inodes.drain(..) {
            let (metadata, map) = volume.inspect(ino)?;
            seen.inodes += 1;
            seen.extents += to_u64(map.len());
            seen.bytes += map.size();
            if metadata.is_directory() {
                rest.push(ino);
            }
        }
    }
    Ok(seen)
}

/// CPU time of this thread so far (`Documentation/scheduler/sched-stats.rst`); other work on the machine does not
/// count in it.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: f64 = text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
    nanoseconds / 1e9
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: walk_xfs IMAGE [ROUNDS]");
        std::process::exit(2);
    };
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    for _ in 0..rounds {
        let file = File::open(&path).map_err(|_| Error::NotThisFormat("XFS"))?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let volume = Xfs::open(Image { file, size }, &OpenOptions::default())?;
        let seen = walk(&volume)?;
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let inodes = f64::from(u32::try_from(seen.inodes).unwrap_or(u32::MAX));
        println!(
            "{} inodes ({} directories), {} extents, {} bytes in {:.1} ms: {:.0} inodes/s, {:.0} per CPU second",
            seen.inodes,
            seen.directories,
            seen.extents,
            seen.bytes,
            seconds * 1e3,
            inodes / seconds,
            inodes / cpu
        );
    }
    Ok(())
}
