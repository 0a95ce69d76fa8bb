//! Reads by pread.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::fs::{Advice, Mode, OFlags};

use super::{Clock, Done};
use crate::generator::Generator;

pub(crate) const BLOCK: usize = 4096;
pub(crate) const MIB: usize = 1 << 20;

/// Whether reads go past the kernel's page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    Direct,
    Buffered,
}

/// Memory that starts at a page, as O_DIRECT wants it.
#[derive(Debug)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    pub(crate) fn new(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        Self { bytes, start, length }
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

pub(crate) fn open(path: &Path, caching: Caching) -> Result<File> {
    let flags = match caching {
        Caching::Direct => OFlags::RDONLY | OFlags::DIRECT,
        Caching::Buffered => OFlags::RDONLY,
    };
    Ok(File::from(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?))
}

/// Reads random blocks, one at a time in each thread; gives reads a second of all threads.
pub(crate) fn random(path: &Path, caching: Caching, threads: usize, limit: Duration) -> Result<Done> {
    let file = open(path, caching)?;
    let blocks = file.metadata()?.len() / BLOCK as u64;
    if caching == Caching::Buffered {
        // Every block once and without read-ahead, so that each read reaches the file system.
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
    }
    let order = match caching {
        Caching::Buffered => Generator::new(7).permutation(blocks as u32),
        Caching::Direct => Vec::new(),
    };
    let clock = Clock::start(limit);
    let work = |thread: usize| -> Result<u64> {
        let mut generator = Generator::new(thread as u64 + 100);
        let mut buffer = Aligned::new(BLOCK);
        let mut done = 0;
        while !clock.is_over() {
            // The clock costs as much as a tenth of a read.
            for _ in 0..8 {
                let block = match order.get(done as usize * threads + thread) {
                    Some(&block) => u64::from(block),
                    None => generator.below(blocks),
                };
                let read = rustix::io::pread(&file, buffer.as_mut(), block * BLOCK as u64)?;
                ensure!(read == BLOCK, "short read of {read} bytes");
                done += 1;
            }
        }
        Ok(done)
    };
    let done: Result<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a load does not panic")).sum()
    });
    Ok(clock.done(done?))
}

/// Reads the file from its beginning by 1 MiB, again and again; gives MiB a second.
pub(crate) fn sequential(path: &Path, caching: Caching, limit: Duration) -> Result<Done> {
    let file = open(path, caching)?;
    let length = file.metadata()?.len() / MIB as u64;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut buffer = Aligned::new(MIB);
    let clock = Clock::start(limit);
    let mut done = 0;
    while !clock.is_over() {
        if done > 0 && done % length == 0 {
            // The clock goes on; dropping clean pages is cheap and the same for everybody.
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        let read = rustix::io::pread(&file, buffer.as_mut(), (done % length) * MIB as u64)?;
        ensure!(read == MIB, "short read of {read} bytes");
        done += 1;
    }
    Ok(clock.done(done))
}
