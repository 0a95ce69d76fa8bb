//! Clients with queues of their own on a volume that is written: they see a file as it is, or are told that they may not.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use homi_client::{ClientError, NvmeStatus, OpenFile, Reader, Session};
use mounts::{FreshVolume, Numbers};
use oracle::{Format, machine, skip_if};
use rustix::fs::{FallocateFlags, fallocate};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

fn opened(session: &Session, path: &Path) -> Result<(OpenFile, Reader)> {
    Ok((session.open(File::open(path)?)?, session.reader(1 << 20)?))
}

fn is_taken_back(result: Result<usize, ClientError>) -> Result<()> {
    match result {
        Err(ClientError::Command { status, .. }) if status.code() == NvmeStatus::NAMESPACE_NOT_READY => {
            Ok(())
        }
        other => bail!("read what was taken back: {other:?}"),
    }
}

/// Does something to a file of a kind that must take it back from its readers.
type Change = fn(&Path) -> Result<()>;

const CHANGES: [(&str, Change); 6] = [
    ("opening for writing", |path| {
        OpenOptions::new().write(true).open(path)?;
        Ok(())
    }),
    ("truncating", |path| {
        let cut = std::process::Command::new("truncate").args(["-s", "5"]).arg(path).status()?;
        ensure!(cut.success(), "truncate failed");
        Ok(())
    }),
    ("removing the last name", |path| Ok(fs::remove_file(path)?)),
    ("renaming over it", |path| {
        fs::write(path.with_extension("new"), "other")?;
        Ok(fs::rename(path.with_extension("new"), path)?)
    }),
    ("opening for reading and appending", |path| {
        // It could be mapped, and written by that.
        OpenOptions::new().read(true).append(true).open(path)?;
        Ok(())
    }),
    ("punching", |path| {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096)?)
    }),
];

#[test]
fn whoever_is_about_to_change_a_file_takes_it_back_first() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=1")?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let kept_path = mount.join("kept");
        fs::write(&kept_path, vec![3; 8192])?;
        let (kept, mut kept_reader) = opened(&session, &kept_path)?;
        for (what, change) in CHANGES {
            let path = mount.join("file");
            fs::write(&path, vec![7; 100_000])?;
            let (file, mut reader) = opened(&session, &path)?;
            let mut bytes = vec![0; 100_000];
            ensure!(
                reader.read(&file, 0, &mut bytes)? == 100_000 && bytes.iter().all(|&byte| byte == 7),
                "{what}"
            );
            change(&path)?;
            ensure!(!file.is_held(), "{format:?}, {what}: the lease word did not change");
            is_taken_back(reader.read(&file, 0, &mut bytes))?;
            ensure!(
                kept.is_held() && kept_reader.read(&kept, 0, &mut bytes[..4096])? == 4096,
                "{what}: another file"
            );
            let _ = fs::remove_file(&path);
        }
        drop((kept, kept_reader, session));
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn what_was_written_before_the_file_was_opened_is_read() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=1")?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let path = mount.join("file");
        for round in 0..20_u8 {
            // Not synced: it lies in the page cache until the lease is asked for.
            fs::write(&path, vec![round; 50_000 + usize::from(round) * 1000])?;
            let (file, mut reader) = opened(&session, &path)?;
            let mut bytes = vec![0xff; 100_000];
            let length = reader.read(&file, 0, &mut bytes)?;
            ensure!(length == 50_000 + usize::from(round) * 1000, "{format:?} round {round}: {length} bytes");
            ensure!(bytes[..length].iter().all(|&byte| byte == round), "{format:?} round {round}");
        }
        let writer = OpenOptions::new().write(true).open(&path)?;
        let Err(ClientError::Refused { .. }) = session.open(File::open(&path)?) else {
            bail!("{format:?}: a file that is open for writing was leased");
        };
        drop(writer);
        drop(session);
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

/// Every 512 bytes of file `number` that were ever written begin with this.
fn mark(number: u64) -> [u8; 8] {
    (0x686f_6d69_6673_0000 | number).to_le_bytes()
}

const FILES: u64 = 6;

/// Writers cut, punch, replace and fill files so that blocks change hands all the time, while readers read by queues of
/// their own: what they see is the file's, or zeros, or a refusal.
#[test]
fn readers_never_see_a_block_that_has_left_its_file() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=2")?;
        let path = |number: u64| mount.join(format!("file{number}"));
        for number in 0..FILES {
            fs::write(path(number), mark(number).repeat(1 << 16))?;
        }
        let (over, reads, changes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let until = Instant::now() + Duration::from_secs(5);
        thread::scope(|scope| -> Result<()> {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let (path, over, changes) = (&path, &over, &changes);
                    scope.spawn(move || -> Result<()> {
                        let mut numbers = Numbers(0x1234_5678_9abc_def1 + writer);
                        while !over.load(Ordering::Relaxed) {
                            let number = numbers.below(FILES);
                            let file = OpenOptions::new()
                                .write(true)
                                .create(true)
                                .truncate(false)
                                .open(path(number))?;
                            match numbers.below(5) {
                                0 => file.set_len(numbers.below(1 << 19) & !511)?,
                                1 => fallocate(
                                    &file,
                                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                                    numbers.below(1 << 19) & !4095,
                                    1 << 16,
                                )?,
                                2 => {
                                    let replacement = path(number).with_extension(format!("new{writer}"));
                                    fs::write(&replacement, mark(number).repeat(1 << 14))?;
                                    fs::rename(&replacement, path(number))?;
                                }
                                _ => {
                                    let offset = numbers.below(1 << 19) & !511;
                                    file.write_all_at(&mark(number).repeat(1 << 13), offset)?;
                                }
                            }
                            // Onto the media, where the readers look.
                            file.sync_data()?;
                            changes.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            let readers: Vec<_> = (0..2)
                .map(|reader| {
                    let (path, over, reads, mount) = (&path, &over, &reads, &mount);
                    scope.spawn(move || -> Result<()> {
                        let session = Session::of_file(File::open(mount.path())?)?;
                        let mut queue = session.reader(1 << 20)?;
                        let (mut numbers, mut bytes) = (Numbers(77 + reader), vec![0; 1 << 20]);
                        while !over.load(Ordering::Relaxed) {
                            let number = numbers.below(FILES);
                            // Replaced meanwhile, or being written.
                            let Ok(plain) = File::open(path(number)) else { continue };
                            let Ok(file) = session.open(plain) else { continue };
                            // Until it is taken back: what a reader holds on to is what somebody else's bytes could come to.
                            for _ in 0..100 {
                                let Ok(length) = queue.read(&file, 0, &mut bytes) else { break };
                                for (place, word) in bytes[..length].chunks_exact(8).enumerate() {
                                    ensure!(
                                        word == mark(number) || word == [0; 8],
                                        "file {number} has {word:02x?} at byte {}",
                                        place * 8
                                    );
                                }
                                reads.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            while Instant::now() < until && !readers.iter().any(thread::ScopedJoinHandle::is_finished) {
                thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Ordering::Relaxed);
            for task in writers.into_iter().chain(readers) {
                task.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok(())
        })?;
        let (reads, changes) = (reads.into_inner(), changes.into_inner());
        ensure!(reads > 50 && changes > 50, "{format:?}: only {reads} reads beside {changes} changes");
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}
