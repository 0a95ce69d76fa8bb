//! A thousand clients, each a process of its own, killed while their commands fly: the daemon has afterwards what it had
//! before.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use homi_client::{Command as Read, Session};
use mounts::{HomifsMount, image_of};
use oracle::{machine, skip_if};

/// Clients that are killed.
const CLIENTS: usize = 1000;
/// How many live at a time.
const AT_ONCE: usize = 8;
/// Tells a process of this test that it is a client, and which file it reads.
const FILE: &str = "HOMIFS_STORM_FILE";
/// The test that such a process runs.
const CLIENT: &str = "client_of_the_storm_reads_until_it_is_killed";

/// What a process holds that clients could make it hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    memfds: usize,
    /// Mappings of memory that clients share.
    shared: usize,
    threads: usize,
    pinned_kib: u64,
    locked_kib: u64,
    /// Pages of memory that processes share, the volume's apart.
    shared_kib: u64,
}

/// KiB of shared memory in a process's page tables, as `smaps` tells of each mapping. What `status` has of the same is
/// summed up from a counter for each processor, and may be off by some pages for each. The volume's own pages are left
/// out: an image that lies in a tmpfs is mapped shared memory too, of which a read anywhere maps 64 KiB more.
fn shared_kib(daemon: u32, volume: &Path) -> Result<u64> {
    let smaps = fs::read_to_string(format!("/proc/{daemon}/smaps"))?;
    let mut total = 0;
    let mut counts = false;
    for line in smaps.lines() {
        // "start-end rwxp offset device inode path", then lines of "Name: value".
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            let access = words.next().unwrap_or_default();
            let path = words.skip(3).collect::<Vec<_>>().join(" ");
            counts = access.ends_with('s') && Path::new(&path) != volume;
        } else if counts && first == "Pss:" {
            total += words.next().context("no number")?.parse::<u64>()?;
        }
    }
    Ok(total)
}

impl Holdings {
    fn of(daemon: u32, volume: &Path) -> Result<Self> {
        let mut descriptors = 0;
        let mut memfds = 0;
        for entry in fs::read_dir(format!("/proc/{daemon}/fd"))? {
            descriptors += 1;
            let target = fs::read_link(entry?.path()).unwrap_or_default();
            memfds += usize::from(target.to_string_lossy().starts_with("/memfd:homi"));
        }
        let maps = fs::read_to_string(format!("/proc/{daemon}/maps"))?;
        let status = fs::read_to_string(format!("/proc/{daemon}/status"))?;
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            descriptors,
            memfds,
            shared: maps.lines().filter(|line| line.contains("memfd:homi")).count(),
            threads: usize::try_from(number("Threads:"))?,
            pinned_kib: number("VmPin:"),
            locked_kib: number("VmLck:"),
            shared_kib: shared_kib(daemon, volume)?,
        })
    }

    /// Whether it is as much as before, or less.
    fn is_within(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.memfds == 0
            && self.shared == 0
            && self.threads <= before.threads
            && self.pinned_kib <= before.pinned_kib
            && self.locked_kib <= before.locked_kib
            && self.shared_kib <= before.shared_kib
    }
}

/// Waits until it is as before; what it is then, or at the end of all patience.
fn settled(daemon: u32, volume: &Path, before: Option<&Holdings>) -> Result<Holdings> {
    let start = Instant::now();
    loop {
        let now = Holdings::of(daemon, volume)?;
        let calm = now.memfds == 0 && now.shared == 0;
        if before.map_or(calm, |before| now.is_within(before)) || start.elapsed() > Duration::from_secs(15) {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process of this test's, which is killed if it is still there.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a client, waits until its commands fly, lets them for a moment, and kills it.
fn one_client(path: &Path, number: usize) -> Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args([CLIENT, "--exact", "--nocapture", "--test-threads=1"]).env(FILE, path);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut client = Client(child);
    let output = client.0.stdout.take().context("no output")?;
    let flies =
        BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("commands fly"));
    ensure!(flies, "client {number} did not get so far");
    std::thread::sleep(Duration::from_micros(u64::try_from(number % 16)? * 100));
    // SIGKILL: nothing of it runs any more.
    client.0.kill()?;
    client.0.wait()?;
    Ok(())
}

#[test]
fn client_of_the_storm_reads_until_it_is_killed() -> Result<()> {
    let Some(path) = env::var_os(FILE) else { return Ok(()) };
    let path = PathBuf::from(path);
    let session = Session::of_file(File::open(&path)?)?;
    let mut queues = session.queues(2, 64)?;
    let buffer = session.buffer(1 << 20)?;
    let opened = session.open(File::open(&path)?)?;
    let folder = path.parent().context("a file lies in a folder")?;
    let snapshot = session.snapshot(File::open(folder)?)?;
    let mut pairs = [queues.pair(0).context("no pair")?, queues.pair(1).context("no pair")?];
    let mut told = false;
    for turn in 0_u64.. {
        for pair in &mut pairs {
            while pair.in_flight() < 60 {
                let place = u64::from(pair.in_flight());
                let file = if place.is_multiple_of(2) { &opened } else { snapshot.namespace() };
                let block = (turn + place) % file.blocks().saturating_sub(8).max(1);
                let blocks = u32::try_from(8.min(file.blocks()))?;
                let iova = buffer.iova() + place * 8192;
                let length = blocks * file.block_size();
                pair.read(Read { nsid: file.nsid(), block, blocks, iova, length }).context("no room")?;
            }
            pair.ring()?;
            while let Some(done) = pair.reap() {
                ensure!(done.status.code() == 0, "{:?}", done.status);
            }
        }
        if !told {
            println!("\ncommands fly");
            std::io::stdout().flush()?;
            told = true;
        }
    }
    Ok(())
}

#[test]
fn thousand_clients_killed_with_commands_in_flight_leave_nothing_behind() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = image_of("ext4-default")?.0.canonicalize()?;
    let mut mount = HomifsMount::new(&volume, "clients=2")?;
    let daemon = mount.daemon().id();
    let path = fs::read_dir(mount.join("holes"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            fs::metadata(path).is_ok_and(|file| file.is_file() && (65536..1 << 24).contains(&file.len()))
        })
        .context("no file to read")?;
    // What the first client makes the daemon load stays; from then on nothing may.
    for number in 0..AT_ONCE {
        one_client(&path, number)?;
    }
    let before = settled(daemon, &volume, None)?;
    ensure!(before.memfds == 0 && before.shared == 0, "{before:?}");

    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CLIENTS {
                        return;
                    }
                    if let Err(error) = one_client(&path, number) {
                        failure
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .get_or_insert(error);
                        next.store(CLIENTS, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failure.map_or(Ok(()), Err)?;
    let took = start.elapsed();
    let after = settled(daemon, &volume, Some(&before))?;
    println!("{CLIENTS} clients in {took:?}: before {before:?}, after {after:?}");
    ensure!(after.is_within(&before), "before {before:?}, after {after:?}");

    // By its own books, too.
    let told = Command::new(mounts::homifs()?).args(["stats", "-o", "json"]).arg(mount.path()).output()?;
    let told: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    for name in ["clients", "client_queue_pairs", "client_buffer_bytes", "client_files"] {
        ensure!(told["values"][name] == 0, "{name}: {told}");
    }
    ensure!(
        told["clients"][0]["client"] == "gone" && told["clients"][0]["count"].as_u64() > Some(1000),
        "{told}"
    );

    // And it still serves.
    let session = Session::of_file(File::open(&path)?)?;
    let opened = session.open(File::open(&path)?)?;
    let mut bytes = vec![0; usize::try_from(opened.size())?];
    session.reader(65536)?.read(&opened, 0, &mut bytes)?;
    ensure!(bytes == fs::read(&path)?);
    Ok(())
}
