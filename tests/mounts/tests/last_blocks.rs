//! The block that a file ends in: what the device holds behind the end is nobody's.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use homi_client::{Command, OpenFile, Session};
use mounts::{Engine, HomifsMount, fill_past_the_end};
use oracle::command::run;
use oracle::{machine, skip_if};

/// Ends of every kind: within the first block of the device, at its end, within a later one, short of the block's end.
const SIZES: [u64; 6] = [1, 300, 512, 4096 + 700, 2 * 4096 + 2048, 3 * 4096 + 4095];

/// A volume whose files' last blocks are full of 0xee behind the end.
fn volume(folder: &Path) -> Result<PathBuf> {
    let (image, tree) = (folder.join("ends.img"), folder.join("tree"));
    fs::create_dir_all(tree.join("folder"))?;
    for size in SIZES {
        fs::write(tree.join(format!("folder/{size}")), vec![b'a'; usize::try_from(size)?])?;
    }
    File::create(&image)?.set_len(16 << 20)?;
    run("mkfs.ext4", ["-q", "-F", "-b", "4096", "-d", &tree.to_string_lossy(), &image.to_string_lossy()])?;
    for size in SIZES {
        fill_past_the_end(&image, &format!("/folder/{size}"), size, &[0xee])?;
    }
    Ok(image)
}

/// Reads blocks of a namespace by a command of its own: all that they hold.
fn blocks_of(session: &Session, file: &OpenFile, block: u64, blocks: u32) -> Result<Vec<u8>> {
    let length = blocks * file.block_size();
    let buffer = session.buffer(usize::try_from(length)?)?;
    for word in buffer.memory().u64s_at(0, buffer.memory().length() / 8) {
        word.store(0xcccc_cccc_cccc_cccc, Ordering::Relaxed);
    }
    let mut queues = session.queues(1, 4)?;
    let mut pair = queues.pair(0).context("no pair")?;
    pair.read(Command { nsid: file.nsid(), block, blocks, iova: buffer.iova(), length })
        .context("no room")?;
    pair.ring()?;
    let start = Instant::now();
    let done = loop {
        if let Some(done) = pair.reap() {
            break done;
        }
        ensure!(start.elapsed() < Duration::from_secs(20), "a command was not answered");
        std::thread::yield_now();
    };
    ensure!(done.status.code() == 0, "{:?}", done.status);
    let mut bytes = vec![0; usize::try_from(length)?];
    buffer.memory().read(0, &mut bytes);
    Ok(bytes)
}

fn is_content_then_zeros(bytes: &[u8], size: u64) -> Result<bool> {
    let (content, rest) = bytes.split_at(usize::try_from(size)?);
    Ok(content.iter().all(|&byte| byte == b'a') && rest.iter().all(|&byte| byte == 0))
}

#[test]
fn command_on_the_last_block_brings_the_files_bytes_and_zeros() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    // Images in memory are copied from, others are read by queues of the engine.
    let memory =
        Some(PathBuf::from("/dev/shm")).filter(|folder| folder.is_dir()).unwrap_or_else(env::temp_dir);
    for (engine, folder) in
        [(Engine::Kernel, env::temp_dir()), (Engine::Kernel, memory), (Engine::Soft, env::temp_dir())]
    {
        let folder = tempfile::tempdir_in(folder)?;
        let image = volume(folder.path())?;
        let mount = HomifsMount::by(engine, &image, "clients=1")?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let snapshot = session.snapshot(File::open(mount.join("folder"))?)?;
        ensure!(snapshot.files() == u64::try_from(SIZES.len())?);
        for size in SIZES {
            let file = session.open(File::open(mount.join(format!("folder/{size}")))?)?;
            let blocks = u32::try_from(file.blocks())?;
            let all = blocks_of(&session, &file, 0, blocks)?;
            ensure!(is_content_then_zeros(&all, size)?, "{engine}: a file of {size} bytes");
            // The last block by itself.
            let last = blocks_of(&session, &file, file.blocks() - 1, 1)?;
            ensure!(last == all[all.len() - last.len()..], "{engine}: the end of {size} bytes");
        }
        // A snapshot lays files out in whole blocks of the file system: all that the last one holds is there to be read.
        let namespace = snapshot.namespace();
        let bytes = blocks_of(&session, namespace, 0, u32::try_from(namespace.blocks())?)?;
        let mut seen = 0;
        for size in SIZES {
            let view = snapshot.view()?;
            let found = view.lookup(size.to_string().as_bytes()).with_context(|| format!("no {size}"))?;
            let found = view.files().get(found).context("no such file")?;
            let start = usize::try_from(snapshot.start_of(found))?;
            let end = start + usize::try_from(size.next_multiple_of(4096))?;
            ensure!(is_content_then_zeros(&bytes[start..end], size)?, "{engine}: {size} bytes in a snapshot");
            seen += end - start;
        }
        ensure!(seen == bytes.len(), "{engine}: {seen} of {} bytes were looked at", bytes.len());
    }
    Ok(())
}
