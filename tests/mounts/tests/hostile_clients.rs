//! A client that tries everything that its queues and its memory let it: it learns nothing, reaches nobody's memory, and
//! the daemon lives.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::env;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use homi_client::memory::Shared;
use homi_client::{Buffer, OpenFile, QueueSet, Reader, Session};
use mounts::{Engine, HomifsMount, Numbers, as_user, fill_past_the_end};
use oracle::command::run;
use oracle::{machine, skip_if};
use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::io::Errno;

/// What nobody but root may see. Any 15 bytes in a row of it have these eight.
const SECRET: &[u8; 8] = b"HIDDEN!\xa7";
/// Somebody without any right but to read what all may.
const HOSTILE: u32 = 12345;
/// Entries of the hostile client's queues.
const ENTRIES: u32 = 64;
/// Bytes of its buffer.
const BUFFER: u64 = 256 << 10;
/// Sessions of its, one after another, each of which ends in a way of its own.
const SESSIONS: u64 = 8;
/// Batches of commands in each of them.
const BATCHES: u64 = 30;
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A volume with files for all, one for root alone, and secrets wherever files end.
fn volume(folder: &Path) -> Result<PathBuf> {
    let (image, tree) = (folder.join("hostile.img"), folder.join("tree"));
    fs::create_dir_all(tree.join("folder"))?;
    fs::write(tree.join("folder/long"), (0..40_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())?;
    for size in [1, 700, 5000, 9000] {
        fs::write(tree.join(format!("folder/{size}")), vec![b'a'; size])?;
    }
    let holes = File::create(tree.join("folder/holes"))?;
    for part in 0..4 {
        std::os::unix::fs::FileExt::write_all_at(&holes, &[b'h'; 4096], part * 3 * 4096)?;
    }
    holes.set_len(60_000)?;
    fs::write(tree.join("secret"), SECRET.repeat(1 << 16))?;
    fs::set_permissions(tree.join("secret"), fs::Permissions::from_mode(0o600))?;
    File::create(&image)?.set_len(16 << 20)?;
    run("mkfs.ext4", ["-q", "-F", "-b", "4096", "-d", &tree.to_string_lossy(), &image.to_string_lossy()])?;
    for size in [1, 700, 5000, 9000, 160_000] {
        let name = if size == 160_000 { "long".to_owned() } else { size.to_string() };
        fill_past_the_end(&image, &format!("/folder/{name}"), size, SECRET)?;
    }
    Ok(image)
}

/// A folder in memory, where there is one: images there are copied from, and not read by queues of the engine.
fn in_memory() -> PathBuf {
    Some(PathBuf::from("/dev/shm")).filter(|folder| folder.is_dir()).unwrap_or_else(env::temp_dir)
}

/// Whether there is anything of the secret in memory that a client can see.
fn has_secret(memory: &Shared) -> bool {
    let mut bytes = vec![0; memory.length()];
    memory.read(0, &mut bytes);
    bytes.windows(SECRET.len()).any(|window| window == SECRET)
}

/// A queue pair whose entries hold anything.
struct RawPair {
    queues: QueueSet,
    tail: u32,
    head: u32,
}

impl RawPair {
    fn new(session: &Session) -> Result<Self> {
        // The second pair's doorbells are for garbage.
        Ok(Self { queues: session.queues(2, ENTRIES)?, tail: 0, head: 0 })
    }

    fn push(&mut self, words: &[u64; 8]) {
        let places = self.queues.places();
        let slot = usize::try_from(self.tail % ENTRIES).unwrap_or(0);
        let entry = self.queues.memory().u64s_at(places.submissions + slot * 64, 8);
        entry.iter().zip(words).for_each(|(word, value)| word.store(*value, Ordering::Relaxed));
        self.tail = self.tail.wrapping_add(1);
    }

    fn ring(&self) {
        let places = self.queues.places();
        let bell = self.queues.doorbells().u32_at(places.tail_doorbell);
        bell.store(self.tail % ENTRIES, Ordering::Release);
    }

    /// The second pair, whose entries were never written, is told to begin wherever that may be.
    fn storm(&self, numbers: &mut Numbers) -> Result<()> {
        let places = self.queues.places();
        for bell in [places.tail_doorbell, places.head_doorbell] {
            let value = if numbers.below(2) == 0 { numbers.below(80) } else { numbers.next() >> 32 };
            let word = self.queues.doorbells().u32_at(bell + places.doorbell_stride);
            word.store(u32::try_from(value)?, Ordering::Release);
        }
        Ok(())
    }

    /// Takes answers until all are there; how many were good.
    fn settle(&mut self) -> Result<u32> {
        let places = self.queues.places();
        let (start, mut good) = (Instant::now(), 0);
        while self.head != self.tail {
            let slot = usize::try_from(self.head % ENTRIES)?;
            let answer = self.queues.memory().u64s_at(places.completions + slot * 16, 2);
            let word = answer[1].load(Ordering::Acquire);
            if (word >> 48) & 1 == u64::from((self.head / ENTRIES) & 1) {
                ensure!(start.elapsed() < PATIENCE, "{} are not answered", self.tail.wrapping_sub(self.head));
                thread::yield_now();
                continue;
            }
            good += u32::from(word >> 49 == 0);
            self.head = self.head.wrapping_add(1);
            let bell = self.queues.doorbells().u32_at(places.head_doorbell);
            bell.store(self.head % ENTRIES, Ordering::Release);
        }
        Ok(good)
    }
}

/// A command that is right, its data named by an SGL or by pages; a list of pages lies in the buffer's first page.
fn right(numbers: &mut Numbers, files: &[OpenFile], buffer: &Buffer) -> [u64; 8] {
    let file = &files[usize::try_from(numbers.below(files.len() as u64)).unwrap_or(0)];
    let block = u64::from(file.block_size());
    let blocks = 1 + numbers.below(file.blocks().min(64));
    let start = numbers.below(file.blocks() - blocks + 1);
    let length = blocks * block;
    let opcode = [2, 2, 2, 2, 0, 1, 5, 8, 9, 12, 25][usize::try_from(numbers.below(11)).unwrap_or(0)];
    let cid = numbers.below(1 << 16);
    let first = opcode | cid << 16 | u64::from(file.nsid()) << 32;
    if numbers.below(2) == 0 {
        const SGL: u64 = 1 << 14;
        let at = buffer.iova() + 4096 + numbers.below(BUFFER - 4096 - length) / 4 * 4;
        return [first | SGL, 0, 0, at, length, start, blocks - 1, 0];
    }
    let page = |numbers: &mut Numbers| buffer.iova() + 4096 * (1 + numbers.below(BUFFER / 4096 - 1));
    let prp1 = page(numbers);
    let pages = length.div_ceil(4096);
    let prp2 = match pages {
        1 => 0,
        2 => page(numbers),
        _ => {
            // Each command has an eighth of the list's page, so that some share one.
            let place = 512 * numbers.below(8);
            let list = buffer.memory().u64s_at(usize::try_from(place).unwrap_or(0), 64);
            for entry in list {
                entry.store(page(numbers), Ordering::Relaxed);
            }
            buffer.iova() + place
        }
    };
    [first, 0, 0, prp1, prp2, start, blocks - 1, 0]
}

/// Changes one field of a command, or an entry of a list of pages.
fn wrong(numbers: &mut Numbers, command: &mut [u64; 8], buffer: &Buffer) {
    // Numbers that mean something, here and there.
    let value = match numbers.below(6) {
        0 => buffer.iova() + numbers.below(2 * BUFFER),
        1 => buffer.iova() + BUFFER - numbers.below(4096),
        2 => 1 << numbers.below(64),
        3 => numbers.below(256),
        4 => (1 << 62) + numbers.below(1 << 26),
        _ => numbers.next(),
    };
    // Place and width: opcode, flags, namespace, words 2 to 5, data pointers, length and kind, first block, count, flags.
    let fields = [
        (0, 0, 8),
        (0, 8, 8),
        (0, 32, 32),
        (1, 0, 64),
        (2, 0, 64),
        (3, 0, 64),
        (4, 0, 64),
        (4, 0, 32),
        (4, 56, 8),
        (5, 0, 64),
        (5, 32, 32),
        (6, 0, 16),
        (6, 16, 16),
        (6, 32, 32),
        (7, 0, 64),
    ];
    if numbers.below(8) == 0 {
        let list = buffer.memory().u64s_at(0, 512);
        list[usize::try_from(numbers.below(512)).unwrap_or(0)].store(value, Ordering::Relaxed);
        return;
    }
    let (word, shift, width) = fields[usize::try_from(numbers.below(fields.len() as u64)).unwrap_or(0)];
    let mask = if width == 64 { u64::MAX } else { ((1_u64 << width) - 1) << shift };
    command[word] = command[word] & !mask | value << shift & mask;
}

/// One session of the hostile client, to its end.
fn attack(mount: &Path, number: u64) -> Result<u32> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ number << 20);
    let session = Session::of_file(File::open(mount.join("folder/long"))?)?;
    let files = fs::read_dir(mount.join("folder"))?
        .map(|entry| Ok(session.open(File::open(entry?.path())?)?))
        .collect::<Result<Vec<_>>>()?;
    let (buffer, other) = (session.buffer(usize::try_from(BUFFER)?)?, session.buffer(64 << 10)?);
    let mut pair = RawPair::new(&session)?;
    let memory = Arc::clone(buffer.memory());
    ensure!(ftruncate(memory.as_fd(), 4096) == Err(Errno::PERM), "the memory can be made shorter");
    let (over, mut good) = (AtomicBool::new(false), 0);
    thread::scope(|scope| -> Result<()> {
        // Pages go while commands fly to them.
        let punching = scope.spawn(|| {
            let mut numbers = Numbers(77 + number);
            while !over.load(Ordering::Relaxed) {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let punched = fallocate(memory.as_fd(), flags, 4096 * numbers.below(BUFFER / 4096), 8192);
                let cut = ftruncate(memory.as_fd(), 4096 * numbers.below(BUFFER / 4096));
                if punched.is_err() || cut != Err(Errno::PERM) {
                    return false;
                }
                thread::sleep(Duration::from_micros(200));
            }
            true
        });
        let mut batches = || -> Result<()> {
            for _ in 0..BATCHES {
                for place in 0..48 {
                    let mut command = right(&mut numbers, &files, &buffer);
                    if place % 2 == 1 {
                        wrong(&mut numbers, &mut command, &buffer);
                    }
                    pair.push(&command);
                }
                pair.ring();
                pair.storm(&mut numbers)?;
                good += pair.settle()?;
                ensure!(!has_secret(buffer.memory()), "session {number} has seen what nobody may see");
            }
            Ok(())
        };
        let outcome = batches();
        over.store(true, Ordering::Relaxed);
        let punched = punching.join().unwrap_or(false);
        outcome?;
        ensure!(punched, "a hole could not be punched, or the memory could be made shorter");
        Ok(())
    })?;
    // Everything is taken away while commands fly, in one order or another.
    for _ in 0..48 {
        let target = if numbers.below(2) == 0 { &buffer } else { &other };
        pair.push(&right(&mut numbers, &files, target));
    }
    pair.ring();
    let kept = [Arc::clone(buffer.memory()), Arc::clone(other.memory()), Arc::clone(pair.queues.memory())];
    match number % 4 {
        0 => drop((buffer, other)),
        1 => drop(files),
        2 => session.end(),
        // Nothing is given back, and the socket is closed by the last who has it.
        _ => {}
    }
    drop(session);
    thread::sleep(Duration::from_micros(numbers.below(3000)));
    ensure!(!kept.iter().any(|memory| has_secret(memory)), "session {number} has seen it at its end");
    Ok(good)
}

/// A client that reads a file it may read, into the middle of memory full of a pattern.
struct Victim {
    reader: Reader,
    file: OpenFile,
    wanted: Vec<u8>,
    canary: Buffer,
    _session: Session,
}

impl Victim {
    fn new(mount: &Path) -> Result<Self> {
        let path = mount.join("secret");
        let session = Session::of_file(File::open(&path)?)?;
        let canary = session.buffer(1 << 20)?;
        for (place, word) in (0_u64..).zip(canary.memory().u64s_at(0, 1 << 17)) {
            word.store(place.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
        }
        Ok(Self {
            reader: session.reader(64 << 10)?,
            file: session.open(File::open(&path)?)?,
            wanted: fs::read(&path)?,
            canary,
            _session: session,
        })
    }

    fn check(&mut self) -> Result<()> {
        let mut bytes = vec![0; self.wanted.len()];
        self.reader.read(&self.file, 0, &mut bytes)?;
        ensure!(bytes == self.wanted, "another client's reads were disturbed");
        let words = (0_u64..).zip(self.canary.memory().u64s_at(0, 1 << 17));
        let spoilt = words.filter(|(place, word)| {
            word.load(Ordering::Relaxed) != place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        ensure!(spoilt.count() == 0, "another client's memory was written");
        Ok(())
    }
}

#[test]
fn hostile_client_learns_nothing_and_harms_nobody() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    skip_if!((!rustix::process::geteuid().is_root()).then(|| "only root becomes other users".to_owned()));
    for (engine, folder) in
        [(Engine::Kernel, env::temp_dir()), (Engine::Kernel, in_memory()), (Engine::Soft, in_memory())]
    {
        let folder = tempfile::tempdir_in(folder)?;
        let image = volume(folder.path())?;
        let before = fs::read(&image)?;
        let mut mount = HomifsMount::by(engine, &image, "clients=2")?;
        let mut victim = Victim::new(mount.path())?;
        let path = mount.path().to_owned();
        let over = AtomicBool::new(false);
        let (good, checks) = thread::scope(|scope| -> Result<(u32, u32)> {
            let watching = scope.spawn(|| -> Result<u32> {
                let mut checks = 0;
                while !over.load(Ordering::Relaxed) {
                    victim.check()?;
                    checks += 1;
                }
                Ok(checks)
            });
            let attacks = || -> Result<u32> {
                let mut good = 0;
                for number in 0..SESSIONS {
                    good += as_user(HOSTILE, || attack(&path, number)).context("the hostile client")?;
                }
                Ok(good)
            };
            let outcome = attacks();
            over.store(true, Ordering::Relaxed);
            let checks = watching.join().map_err(|_| anyhow::anyhow!("the victim panicked"))?;
            Ok((outcome?, checks?))
        })?;
        println!("{engine}: {good} commands were good, the victim read {checks} times");
        ensure!(
            good > 1000 && checks > 0,
            "{engine}: {good} good commands, {checks} looks: that proves little"
        );
        victim.check()?;
        ensure!(fs::read(mount.join("secret"))? == victim.wanted, "{engine}: the mount lives");
        drop(victim);
        let said = mount.daemon().said();
        ensure!(!said.contains("panicked"), "{engine}: {said}");
        drop(mount);
        ensure!(fs::read(&image)? == before, "{engine}: the volume has changed");
    }
    Ok(())
}
