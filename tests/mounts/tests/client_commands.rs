//! What `homifs` tells about clients with queues of their own, and does to them.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use homi_client::{ClientError, Command as Read, NvmeStatus, Reader, Session};
use mounts::{HomifsMount, image_of};
use oracle::{machine, skip_if};
use serde_json::Value;

/// Files of the oracle's volumes with at least this many bytes.
fn files_of(mount: &HomifsMount, least: u64) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(mount.join("holes"))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // Files of terabytes are for other tests.
        if metadata.is_file() && (least..16 << 20).contains(&metadata.len()) {
            files.push(entry.path());
        }
    }
    ensure!(files.len() >= 2, "only {} files", files.len());
    Ok(files)
}

/// Standard output of `homifs` with these arguments, or what it complained of.
fn homifs(arguments: &[&str]) -> Result<Result<String, String>> {
    let output = Command::new(mounts::homifs()?).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

fn shown(path: &Path) -> Result<&str> {
    path.to_str().context("a path of the test is no UTF-8")
}

fn stats(mount: &HomifsMount) -> Result<Value> {
    let text = homifs(&["stats", "-o", "json", shown(mount.path())?])?.map_err(anyhow::Error::msg)?;
    Ok(serde_json::from_str(&text)?)
}

/// Reads a file whose bytes are those that read(2) gives.
fn read_and_compare(session: &Session, reader: &mut Reader, path: &Path) -> Result<u64> {
    let opened = session.open(File::open(path)?)?;
    let mut bytes = vec![0; usize::try_from(opened.size().min(1 << 20))?];
    reader.read(&opened, 0, &mut bytes)?;
    ensure!(bytes == fs::read(path)?[..bytes.len()], "{} differs", path.display());
    Ok(opened.size().min(1 << 20))
}

#[test]
fn revoke_command_ends_one_file_of_every_client_and_no_other() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, "clients=1")?;
    let [path, other] = &files_of(&mount, 4096)?[..2] else { unreachable!("two were asked for") };
    let sessions = [Session::of_file(File::open(path)?)?, Session::of_file(File::open(path)?)?];
    let mut opened = Vec::new();
    for session in &sessions {
        opened.push((
            session.open(File::open(path)?)?,
            session.open(File::open(other)?)?,
            session.reader(65536)?,
        ));
    }
    let mut bytes = vec![0; 4096];
    for (file, kept, reader) in &mut opened {
        reader.read(file, 0, &mut bytes)?;
        reader.read(kept, 0, &mut bytes)?;
        ensure!(file.is_held() && kept.is_held());
    }
    let told = homifs(&["revoke", shown(path)?])?.map_err(anyhow::Error::msg)?;
    ensure!(told.lines().nth(1).is_some_and(|line| line.trim_start().starts_with('2')), "{told}");
    for (file, kept, reader) in &mut opened {
        ensure!(!file.is_held(), "the lease word did not change");
        match reader.read(file, 0, &mut bytes) {
            Err(ClientError::Command { status, .. }) => {
                ensure!(status.code() == NvmeStatus::NAMESPACE_NOT_READY, "{status:?}");
            }
            other => anyhow::bail!("read what was taken back: {other:?}"),
        }
        ensure!(kept.is_held());
        reader.read(kept, 0, &mut bytes)?;
        ensure!(bytes == fs::read(other)?[..4096], "the other file is as before");
    }
    let refused = homifs(&["revoke", "/proc/self/status"])?.err().context("not refused")?;
    ensure!(refused.contains("not on a homifs mount"), "{refused}");
    let missing = homifs(&["revoke", shown(&mount.join("no-such-file"))?])?.err().context("not refused")?;
    ensure!(missing.contains("no-such-file"), "{missing}");
    Ok(())
}

#[test]
fn stats_tell_of_each_client_queue_and_file_what_was_read() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("xfs-default")?.0, "clients=2")?;
    let files = files_of(&mount, 4096)?;
    let session = Session::of_file(File::open(&files[0])?)?;
    let mut reader = session.reader(1 << 20)?;
    let mut bytes = 0;
    for path in &files {
        bytes += read_and_compare(&session, &mut reader, path)?;
    }
    let kept = session.open(File::open(&files[0])?)?;
    let block = u64::from(kept.block_size());
    let mut some = vec![0; 4096];
    for _ in 0..3 {
        reader.read(&kept, 0, &mut some)?;
    }
    let told = stats(&mount)?;
    ensure!(told["version"] == 1, "{told}");
    let number = session.client().to_string();
    let of = |kind: &str, wanted: &dyn Fn(&Value) -> bool| -> Result<Value> {
        let all = told[kind].as_array().with_context(|| format!("no {kind}: {told}"))?;
        let found = all.iter().find(|work| work["client"] == number && wanted(work));
        found.cloned().with_context(|| format!("not among {kind}: {told}"))
    };
    let client = of("clients", &|_| true)?;
    // Whole blocks are read, of which each file's last may be filled up.
    let read = client["read_bytes"].as_u64().context("no bytes")?;
    let most = bytes + 3 * 4096 + block * u64::try_from(files.len())?;
    ensure!((bytes + 3 * 4096..=most).contains(&read), "{read} bytes of {bytes} to {most}");
    ensure!(client["errors"] == 0, "{client}");
    ensure!(client["mean_seconds"].as_f64().is_some_and(|mean| mean > 0.0 && mean < 10.0), "{client}");
    let queue = of("queues", &|work| work["queue"] == "1")?;
    ensure!(queue["count"] == client["count"] && queue["read_bytes"] == client["read_bytes"], "{queue}");
    let kept_number = kept.nsid().to_string();
    let file = of("files", &|work| work["file"] == *kept_number)?;
    ensure!((&file["count"], &file["read_bytes"]) == (&3.into(), &(3 * 4096).into()), "{file}");
    let closed = of("files", &|work| work["file"] == "closed")?;
    ensure!(
        closed["count"].as_u64().zip(client["count"].as_u64()).is_some_and(|(a, b)| a + 3 == b),
        "{closed}"
    );

    // Past the end, by a command of our own.
    let buffer = session.buffer(4096)?;
    let mut queues = session.queues(1, 16)?;
    let mut pair = queues.pair(0).context("no pair")?;
    let past = Read {
        nsid: kept.nsid(),
        block: kept.blocks(),
        blocks: 1,
        iova: buffer.iova(),
        length: kept.block_size(),
    };
    pair.read(past).context("no room")?;
    pair.ring()?;
    while pair.reap().is_none() {
        std::thread::yield_now();
    }
    let failed = |told: &Value, kind: &str, key: &str, value: &str| {
        told[kind].as_array().is_some_and(|all| {
            all.iter().any(|work| {
                work["client"] == number && work[key] == value && work["errors_by_status"]["0x080"] == 1
            })
        })
    };
    let told = stats(&mount)?;
    for (kind, key, value) in
        [("clients", "client", &*number), ("queues", "queue", "2"), ("files", "file", &*kept_number)]
    {
        ensure!(failed(&told, kind, key, value), "{kind}: {told}");
    }
    let table = homifs(&["stats", shown(mount.path())?])?.map_err(anyhow::Error::msg)?;
    ensure!(table.contains("CLIENT") && table.contains("P99<="), "{table}");

    // What a client did is not forgotten when it goes.
    let commands = client["count"].as_u64().context("no count")? + 1;
    drop((kept, buffer, pair, queues, reader));
    session.end();
    let start = std::time::Instant::now();
    loop {
        let told = stats(&mount)?;
        let clients = told["clients"].as_array().context("no clients")?;
        let gone = clients.iter().find(|work| work["client"] == "gone").context("nobody is gone")?;
        if clients.len() == 1 && gone["count"] == commands && gone["errors"] == 1 {
            return Ok(());
        }
        ensure!(start.elapsed().as_secs() < 10, "{told}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The errno and the sentence of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Result<(i32, String)> {
    match answer {
        Err(ClientError::Refused { errno, text }) => Ok((errno, text)),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

#[test]
fn limits_of_the_mount_hold_for_each_client_and_all_of_them() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let limits = "clients=1,client_sessions=2,client_queues=3,client_depth=64,client_memory=256K,client_buffers=2,\
                  client_files=2";
    let mount = HomifsMount::new(&image_of("ext4-default")?.0, limits)?;
    let files = files_of(&mount, 4096)?;
    let session = Session::of_file(File::open(&files[0])?)?;
    let told = session.limits();
    ensure!((told.queues, told.entries, told.buffers, told.files) == (3, 64, 2, 2), "{told:?}");
    ensure!(told.buffer_bytes == 256 << 10, "{told:?}");

    ensure!(refusal(session.queues(1, 128))?.0 == libc::EINVAL);
    let _queues = session.queues(3, 64)?;
    ensure!(refusal(session.queues(1, 64))?.0 == libc::EDQUOT);
    // What the queues have, the buffers have not: 3 pairs of 64 entries of 64 and 16 bytes, in whole pages.
    let _buffer = session.buffer((256 << 10) - 3 * 8192 - 4096)?;
    ensure!(refusal(session.buffer(8192))?.0 == libc::EDQUOT);
    let last = session.buffer(4096)?;
    ensure!(refusal(session.buffer(4096))?.0 == libc::EDQUOT);
    drop(last);
    session.buffer(4096)?;
    let opened = [session.open(File::open(&files[0])?)?, session.open(File::open(&files[1])?)?];
    ensure!(refusal(session.open(File::open(&files[0])?))?.0 == libc::EMFILE);
    drop(opened);
    session.open(File::open(&files[0])?)?;

    // Another client has limits of its own; a third is one too many.
    let other = Session::of_file(File::open(&files[0])?)?;
    let _others = other.queues(3, 64)?;
    ensure!(Session::of_file(File::open(&files[0])?).is_err(), "a third client came in");
    drop((other, _others));
    let start = std::time::Instant::now();
    while Session::of_file(File::open(&files[0])?).is_err() {
        ensure!(start.elapsed().as_secs() < 10, "no place became free");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}
