//! Files read by commands of a client's own, through every engine, and what such a client cannot do.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use homi_abi::session::Handle;
use homi_client::{ClientError, Command as Read, NvmeStatus, Session};
use mounts::{Engine, HomifsMount, image_of, regular_files};
use oracle::{machine, skip_if};
use rustix::io::{FdFlags, fcntl_setfd};
use zerocopy::IntoBytes;

fn files_of(mount: &HomifsMount) -> Result<Vec<PathBuf>> {
    let files = regular_files(mount.path())?;
    ensure!(files.len() > 20, "only {} files to read", files.len());
    Ok(files)
}

#[test]
fn every_file_reads_by_queues_as_it_does_by_read() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for (volume, engine) in [
        ("ext4-default", Engine::Kernel),
        ("xfs-default", Engine::Kernel),
        ("ext4-inline", Engine::Kernel),
        ("ext4-default", Engine::Soft),
        ("xfs-default", Engine::VfioUser),
    ] {
        let mount = HomifsMount::by(engine, &image_of(volume)?.0, "clients=2")?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let mut reader = session.reader(1 << 20)?;
        for path in files_of(&mount)? {
            let opened = session.open(File::open(&path)?)?;
            // Files of terabytes are mostly holes; their ends are what counts.
            let length = usize::try_from(opened.size().min(4 << 20))?;
            for offset in [0, opened.size().saturating_sub(1 << 20), opened.size() / 3] {
                let (mut ours, mut theirs) = (vec![0xaa; length], vec![0xbb; length]);
                let got = reader.read(&opened, offset, &mut ours)?;
                let file = File::open(&path)?;
                let mut wanted = 0;
                while wanted < length {
                    let at = offset + u64::try_from(wanted)?;
                    match std::os::unix::fs::FileExt::read_at(&file, &mut theirs[wanted..], at)? {
                        0 => break,
                        more => wanted += more,
                    }
                }
                ensure!(
                    got == wanted,
                    "{volume} by {engine}: {} at {offset}: {got} of {wanted}",
                    path.display()
                );
                ensure!(
                    ours[..got] == theirs[..got],
                    "{volume} by {engine}: {} differs at {offset}",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn device_source_in_another_process_reads_what_read_gives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!((!machine::has_tool("c++")).then(|| "no C++ compiler".to_owned()));
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("read_file");
    let device = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gpu/device");
    let built = Command::new("c++")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-std=c++17", "-pthread", "-x", "c++"])
        .args(["-I", &format!("{device}/include"), &format!("{device}/tests/read_file.cu"), "-o"])
        .arg(&program)
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for volume in ["ext4-default", "xfs-default"] {
        let mount = HomifsMount::new(&image_of(volume)?.0, "clients=1")?;
        let mut read = 0;
        for path in files_of(&mount)? {
            let size = fs::metadata(&path)?.len();
            if size == 0 || size > 8 << 20 {
                continue;
            }
            // From one pair, to more pairs than the file has parts.
            let pairs = [1, 4, 64][read % 3];
            read_with(&program, &path, pairs)?;
            read += 1;
        }
        ensure!(read > 10, "only {read} files were read on {volume}");
    }
    Ok(())
}

/// Gives the program queues, memory and the file, as the example `device_read` does.
fn read_with(program: &Path, path: &Path, pairs: u32) -> Result<()> {
    let file = File::open(path)?;
    let session = Session::of_file(&file)?;
    let opened = session.open(&file)?;
    let queues = session.queues(pairs, 16)?;
    let transfer = 64 << 10;
    let buffer = session.buffer(usize::try_from(pairs)? * transfer)?;
    let places = queues.places();
    let mut command = Command::new(program);
    command.arg(path);
    let numbers = [
        u64::from(opened.nsid()),
        opened.block_shift().into(),
        opened.size(),
        buffer.iova(),
        u64::try_from(buffer.memory().length())?,
        places.count.into(),
        places.entries.into(),
    ];
    command.args(numbers.map(|number| number.to_string()));
    let sizes = [
        places.stride,
        places.submissions,
        places.completions,
        places.length,
        places.doorbell_stride,
        places.tail_doorbell,
        places.head_doorbell,
        places.doorbells_length,
        transfer,
    ];
    command.args(sizes.map(|size| size.to_string()));
    for descriptor in [queues.memory().as_fd(), queues.doorbells().as_fd(), buffer.memory().as_fd()] {
        fcntl_setfd(descriptor, FdFlags::empty())?;
        command.arg(descriptor.as_raw_fd().to_string());
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} by {pairs} pairs: {said}", path.display());
    Ok(())
}

/// The handle of a file or a directory, as any program gets it.
fn handle_of(path: &Path) -> Result<Handle> {
    let mut handle = Handle::default();
    let length = rustix::fs::fgetxattr(File::open(path)?, c"homi.handle", handle.as_mut_bytes())?;
    ensure!(length == size_of::<Handle>());
    Ok(handle)
}

#[test]
fn handle_that_is_forged_or_of_another_mount_is_refused() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let image = image_of("ext4-default")?.0;
    let (ours, theirs) = (HomifsMount::new(&image, "clients=1")?, HomifsMount::new(&image, "clients=1")?);
    let name = files_of(&ours)?.remove(0);
    let inside = name.strip_prefix(ours.path())?.to_owned();
    let session = Session::of_file(File::open(&name)?)?;
    let good = handle_of(&name)?;
    session.open_handle(&good)?;
    let refused = |handle: &Handle| match session.open_handle(handle) {
        Err(ClientError::Refused { errno, .. }) => Ok(errno),
        other => Err(anyhow::anyhow!("not refused: {other:?}")),
    };
    ensure!(refused(&handle_of(&theirs.path().join(&inside))?)? == libc::ESTALE);
    let mut forged = good;
    forged.inode = 2.into();
    ensure!(refused(&forged)? == libc::EPERM);
    let mut stretched = good;
    stretched.expiry = u64::MAX.into();
    ensure!(refused(&stretched)? == libc::EPERM);
    Ok(())
}

#[test]
fn handle_past_its_time_is_refused_and_what_it_opened_goes_on() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "ro,clients=1,client_handle=2")?;
    let path = files_of(&mount)?.into_iter().find(|path| fs::metadata(path).is_ok_and(|m| m.len() >= 8192));
    let path = path.context("no file of two blocks")?;
    let (wanted, session) = (fs::read(&path)?, Session::of_file(File::open(&path)?)?);
    let (handle, directory) = (handle_of(&path)?, handle_of(mount.path())?);
    let (file, snapshot) = (session.open_handle(&handle)?, session.snapshot_of_handle(&directory)?);
    let start = Instant::now();
    let refused = loop {
        match session.open_handle(&handle) {
            Ok(again) => drop(again),
            Err(ClientError::Refused { errno, text }) => break (errno, text),
            Err(other) => return Err(other.into()),
        }
        ensure!(start.elapsed() < Duration::from_secs(20), "a handle for 2 s is good after 20 s");
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(refused.0 == libc::EKEYEXPIRED && refused.1.contains("too old"), "{refused:?}");
    match session.snapshot_of_handle(&directory) {
        Err(ClientError::Refused { errno: libc::EKEYEXPIRED, .. }) => {}
        other => anyhow::bail!("a snapshot by a handle that is too old: {other:?}"),
    }
    // What was opened in time stays open, and the file can be had again.
    ensure!(file.is_held() && snapshot.namespace().is_held());
    for file in [&file, &session.open_handle(&handle_of(&path)?)?] {
        let mut got = vec![0; wanted.len()];
        ensure!(session.reader(64 << 10)?.read(file, 0, &mut got)? == wanted.len() && got == wanted);
    }
    Ok(())
}

#[test]
fn commands_beyond_a_clients_files_and_memory_fail_with_their_status() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    let path = files_of(&mount)?.into_iter().find(|path| fs::metadata(path).is_ok_and(|m| m.len() >= 8192));
    let path = path.context("no file of two blocks")?;
    let session = Session::of_file(File::open(&path)?)?;
    let file = session.open(File::open(&path)?)?;
    let buffer = session.buffer(8192)?;
    let mut queues = session.queues(1, 16)?;
    let mut pair = queues.pair(0).context("no pair")?;
    let block = file.block_size();
    let good = Read { nsid: file.nsid(), block: 0, blocks: 1, iova: buffer.iova(), length: block };
    let mut status_of = |command: Read| -> Result<u16> {
        let place = pair.read(command).context("the queue is full")?;
        pair.ring()?;
        let start = Instant::now();
        loop {
            if let Some(done) = pair.reap() {
                ensure!(done.place == place && pair.in_flight() == 0 && pair.strays() == 0);
                return Ok(done.status.code());
            }
            ensure!(start.elapsed() < Duration::from_secs(10), "{command:?} was not answered");
        }
    };
    ensure!(status_of(good)? == 0);
    ensure!(status_of(Read { nsid: file.nsid() + 1, ..good })? == NvmeStatus::INVALID_NAMESPACE);
    ensure!(status_of(Read { nsid: 0, ..good })? == NvmeStatus::INVALID_NAMESPACE);
    ensure!(status_of(Read { block: file.blocks(), ..good })? == NvmeStatus::LBA_OUT_OF_RANGE);
    ensure!(status_of(Read { block: u64::MAX, ..good })? == NvmeStatus::LBA_OUT_OF_RANGE);
    // Data Transfer Error: not this client's memory, or only in part.
    const TRANSFER: u16 = 0x04;
    ensure!(status_of(Read { iova: 0, ..good })? == TRANSFER);
    ensure!(status_of(Read { iova: buffer.iova() + 8192, ..good })? == TRANSFER);
    ensure!(status_of(Read { iova: buffer.iova() + 8192 - u64::from(block) / 2, ..good })? == TRANSFER);
    // Data SGL Length Invalid.
    ensure!(status_of(Read { length: block - 4, ..good })? == 0x0f);
    let lease = file.lease_slot();
    ensure!(file.is_held(), "lease {lease}");
    // Identify Namespace, as a driver reads it: NSZE, and LBADS of the format in use (NVM Command Set, section 4.1.5.1).
    let page = session.identify(file.nsid())?;
    let blocks = page.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    ensure!(blocks == Some(file.blocks()) && 1 << page[128 + 2] == block, "{blocks:?}, 2^{}", page[128 + 2]);
    ensure!(session.identify(file.nsid() + 1).is_err(), "a namespace of nobody's is told of");
    ensure!(status_of(good)? == 0, "what failed did no harm");
    Ok(())
}

#[test]
fn clients_gone_at_any_moment_leave_nothing_behind() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mut mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=2")?;
    let daemon = mount.daemon().id();
    let path = files_of(&mount)?.remove(0);
    let holdings = || -> Result<(usize, usize)> {
        let maps = fs::read_to_string(format!("/proc/{daemon}/maps"))?;
        let shared = maps.lines().filter(|line| line.contains("homi-")).count();
        Ok((fs::read_dir(format!("/proc/{daemon}/fd"))?.count(), shared))
    };
    // What the first client makes the daemon load stays; from then on nothing may.
    drop(Session::of_file(File::open(&path)?)?);
    let settled = |wanted: Option<(usize, usize)>| -> Result<(usize, usize)> {
        let start = Instant::now();
        loop {
            let now = holdings()?;
            let calm = now.1 == 0 && wanted.is_none_or(|wanted| now.0 <= wanted.0);
            if calm || start.elapsed() > Duration::from_secs(20) {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let before = settled(None)?;
    for round in 0_u32..60 {
        let session = Session::of_file(File::open(&path)?)?;
        let mut queues = session.queues(4, 64)?;
        let buffer = session.buffer(1 << 20)?;
        let file = session.open(File::open(&path)?)?;
        let mut pair = queues.pair(round % 4).context("no pair")?;
        for block in 0..u64::from(round % 32) {
            let length = file.block_size();
            let command = Read { nsid: file.nsid(), block, blocks: 1, iova: buffer.iova(), length };
            pair.read(command);
        }
        pair.ring()?;
        // Nothing is given back one by one.
        session.end();
        std::mem::forget((file, buffer));
    }
    let after = settled(Some(before))?;
    ensure!(after.1 == 0 && after.0 <= before.0, "before {before:?}, after {after:?}");
    Ok(())
}

#[test]
fn queues_full_of_anything_harm_nobody_else() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    let path = files_of(&mount)?.into_iter().find(|path| fs::metadata(path).is_ok_and(|m| m.len() > 65536));
    let path = path.context("no long file")?;
    let (bad, good) = (Session::of_file(File::open(&path)?)?, Session::of_file(File::open(&path)?)?);
    let file = good.open(File::open(&path)?)?;
    let mut reader = good.reader(65536)?;
    let wanted = fs::read(&path)?;
    let theirs = bad.open(File::open(&path)?)?;
    let canary = bad.buffer(65536)?;
    let queues = bad.queues(2, 64)?;
    let places = queues.places();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..200 {
        for pair in 0..2_usize {
            let submissions = pair * places.stride + places.submissions;
            for word in queues.memory().u64s_at(submissions, 64 * 8) {
                // Numbers that mean something, here and there.
                let value = match draw() % 6 {
                    0 => canary.iova() + draw() % 65536,
                    1 => u64::from(theirs.nsid()) << 32 | 2 | (draw() % 65536) << 16,
                    2 => draw() % 256,
                    _ => draw(),
                };
                word.store(value, Ordering::Relaxed);
            }
            let bell = pair * places.doorbell_stride;
            let value = u32::try_from(draw() % 80)?;
            queues.doorbells().u32_at(places.tail_doorbell + bell).store(value, Ordering::Release);
            queues.doorbells().u32_at(places.head_doorbell + bell).store(value / 2, Ordering::Release);
        }
        let mut bytes = vec![0; wanted.len().min(1 << 20)];
        reader.read(&file, 0, &mut bytes)?;
        ensure!(bytes == wanted[..bytes.len()], "another client's reads were disturbed");
    }
    ensure!(fs::read(&path)? == wanted, "the mount lives");
    Ok(())
}
