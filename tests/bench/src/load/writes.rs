//! Changes: writes, creations, removals, and what makes them durable.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::reads::{Aligned, BLOCK, Caching};
use super::{Clock, Done};
use crate::generator::Generator;

const MIB: usize = 1 << 20;

fn open(path: &Path, caching: Caching) -> Result<File> {
    let direct = if caching == Caching::Direct { OFlags::DIRECT } else { OFlags::empty() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | direct;
    Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Reads and overwrites random blocks of a file that is open for both; of a hundred operations `reads` are reads. Gives
/// operations a second.
pub(crate) fn mixed(path: &Path, caching: Caching, reads: u64, limit: Duration) -> Result<Done> {
    let file = open(path, caching)?;
    let blocks = file.metadata()?.len() / BLOCK as u64;
    let (mut generator, mut buffer) = (Generator::new(11), Aligned::new(BLOCK));
    // What compresses would be read faster afterwards than what other volumes still have.
    generator.fill(buffer.as_mut());
    let clock = Clock::start(limit);
    let mut done = 0;
    while !clock.is_over() {
        for _ in 0..8 {
            let offset = generator.below(blocks) * BLOCK as u64;
            let moved = if generator.below(100) < reads {
                rustix::io::pread(&file, buffer.as_mut(), offset)?
            } else {
                rustix::io::pwrite(&file, buffer.as_mut(), offset)?
            };
            ensure!(moved == BLOCK, "{moved} bytes");
            done += 1;
        }
    }
    Ok(clock.done(done))
}

/// Overwrites the file from its beginning by 1 MiB, again and again; gives MiB a second.
pub(crate) fn sequential(path: &Path, caching: Caching, limit: Duration) -> Result<Done> {
    let file = open(path, caching)?;
    let length = file.metadata()?.len() / MIB as u64;
    let mut buffer = Aligned::new(MIB);
    Generator::new(12).fill(buffer.as_mut());
    let clock = Clock::start(limit);
    let mut done = 0;
    while !clock.is_over() {
        ensure!(rustix::io::pwrite(&file, buffer.as_mut(), (done % length) * MIB as u64)? == MIB);
        done += 1;
    }
    Ok(clock.done(done))
}

/// Appends a block and makes it durable, again and again; gives appends a second.
pub(crate) fn durable(directory: &Path, limit: Duration) -> Result<Done> {
    let path = directory.join("durable");
    let file = open(&path, Caching::Buffered)?;
    let block = [0x5a; BLOCK];
    let clock = Clock::start(limit);
    let mut done = 0;
    while !clock.is_over() {
        ensure!(rustix::io::pwrite(&file, &block, done * BLOCK as u64)? == BLOCK);
        rustix::fs::fsync(&file)?;
        done += 1;
    }
    let done = clock.done(done);
    drop(file);
    rustix::fs::unlinkat(rustix::fs::CWD, &path, AtFlags::empty())?;
    Ok(done)
}

/// Makes empty files, and gives what each step of a file's life costs: made, looked at, removed, a second.
pub(crate) fn lives(directory: &Path, step: Step, files: u32) -> Result<Done> {
    let directory = directory.join("lives");
    std::fs::create_dir(&directory)?;
    let names: Vec<_> = (0..files).map(|number| directory.join(format!("file-{number}"))).collect();
    let made = timed(&names, |path| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        Ok(())
    })?;
    let looked = if step == Step::Stat {
        // What is remembered of names is forgotten, so that each is asked for.
        std::fs::write("/proc/sys/vm/drop_caches", "2")?;
        Some(timed(&names, |path| {
            rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(())
        })?)
    } else {
        None
    };
    let removed = timed(&names, |path| Ok(rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::empty())?))?;
    std::fs::remove_dir(&directory)?;
    Ok(match step {
        Step::Create => made,
        Step::Stat => looked.unwrap_or(made),
        Step::Unlink => removed,
    })
}

/// Which step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Stat,
    Unlink,
}

fn timed(names: &[std::path::PathBuf], step: impl Fn(&Path) -> Result<()>) -> Result<Done> {
    let clock = Clock::start(Duration::MAX);
    names.iter().try_for_each(|name| step(name))?;
    Ok(clock.done(names.len() as u64))
}
