//! Clients whose commands wait for something, and others who must not wait for them.
#![allow(missing_docs, reason = "tests are documented by their names")]

mod below;
mod volume;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use homi_client::{Command, Done, OpenFile, Operation, QueuePair, QueueSet, Session};
use homifs_clients::{ClientLimits, Server};
use homifs_core::Homifs;
use homifs_options::MountOptions;

use below::{Below, Gate};
use volume::Volume;

/// Longer than anything takes here that waits for nobody, much shorter than the daemon's own deadlines.
const PATIENCE: Duration = Duration::from_secs(8);

/// A mount whose file `written` keeps everybody waiting while the gate is closed.
struct Slow {
    gate: Arc<Gate>,
    volume: Volume,
    homifs: Arc<Homifs>,
}

impl Slow {
    fn new() -> Option<Self> {
        let volume = Volume::new()?;
        let homifs =
            volume.mount_as(false, MountOptions { read_only: false, ..MountOptions::default() }, None);
        let gate = Below::default().put(&homifs);
        let volume = volume.of(&homifs);
        Some(Self { gate, volume, homifs })
    }

    fn open_to_write(&self, session: &Session) -> OpenFile {
        session.open_handle(&self.volume.handle(b"written", b"homi.handle.write")).unwrap()
    }
}

/// One block of a file.
fn block_of(file: &OpenFile, buffer: &homi_client::Buffer) -> Command {
    let length = file.block_size();
    Command { nsid: file.nsid(), block: 0, blocks: 1, iova: buffer.iova(), length }
}

/// A read of one block that is another command by the time it is rung for.
fn submit_as(queues: &QueueSet, pair: &mut QueuePair, command: Command, opcode: u64, nsid: u64) -> u16 {
    let place = pair.submit(Operation::Read, command).unwrap();
    let words = queues.memory().u64s_at(queues.places().submissions + usize::from(place) * 64, 8);
    let kept = words[0].load(Ordering::Relaxed) & 0xffff_ff00;
    words[0].store(kept | opcode | nsid << 32, Ordering::Relaxed);
    place
}

fn answer(pair: &mut QueuePair) -> Done {
    let start = Instant::now();
    loop {
        if let Some(done) = pair.reap() {
            return done;
        }
        assert!(start.elapsed() < PATIENCE, "a command was not answered");
        thread::yield_now();
    }
}

#[test]
fn commands_that_would_wait_on_the_mediator_are_refused_and_others_hold_nobody_up() {
    let Some(slow) = Slow::new() else { return };
    let server = Server::start(&slow.homifs, 1, ClientLimits::default()).unwrap();
    let (writer, reader) =
        (Session::connect(server.path()).unwrap(), Session::connect(server.path()).unwrap());
    let written = slow.open_to_write(&writer);
    let large = reader.open_handle(&slow.volume.handle_of(b"large")).unwrap();
    let mut queue = reader.reader(64 << 10).unwrap();
    let buffer = writer.buffer(64 << 10).unwrap();
    let mut queues = writer.queues(1, 512).unwrap();
    let mut pair = queues.pair(0).unwrap();
    let command = block_of(&written, &buffer);
    let nsid = u64::from(written.nsid());

    // All opcodes but those of Flush, Write, Read and Write Zeroes: Compare, Verify, Copy and Dataset Management among them.
    let others = (0..=0xff_u64).filter(|opcode| ![0x00, 0x01, 0x02, 0x08].contains(opcode));
    let others: Vec<u64> = others.collect();
    for &opcode in &others {
        submit_as(&queues, &mut pair, command, opcode, nsid);
    }
    submit_as(&queues, &mut pair, command, 0, 0xffff_ffff);
    pair.ring().unwrap();
    for &opcode in &others {
        assert_eq!(answer(&mut pair).status.code(), 0x01, "opcode {opcode:#x}");
    }
    assert_eq!(answer(&mut pair).status.code(), 0x0b, "Flush of all namespaces");

    // These wait, but not on the mediator.
    for opcode in [0x00, 0x01, 0x02, 0x08, 0x00, 0x01, 0x02, 0x08] {
        submit_as(&queues, &mut pair, command, opcode, nsid);
    }
    pair.ring().unwrap();
    slow.gate.wait_for(2);
    let start = Instant::now();
    let mut bytes = vec![0; 4096];
    for _ in 0..100 {
        assert_eq!(queue.read(&large, 4096, &mut bytes).unwrap(), 4096);
    }
    assert!(start.elapsed() < PATIENCE, "100 reads beside a client that waits took {:?}", start.elapsed());
    assert_eq!(bytes[..4], 1024_u32.to_le_bytes());
    assert!(pair.reap().is_none() && pair.in_flight() == 8, "the gate is closed");
    slow.gate.open();
    for _ in 0..8 {
        assert_eq!(answer(&mut pair).status.code(), 0);
    }
}

#[test]
fn client_that_goes_while_its_commands_wait_lets_files_be_taken_back_from_others() {
    let Some(slow) = Slow::new() else { return };
    let server = Server::start(&slow.homifs, 1, ClientLimits::default()).unwrap();
    let (dying, other) = (Session::connect(server.path()).unwrap(), Session::connect(server.path()).unwrap());
    let written = slow.open_to_write(&dying);
    let large = other.open_handle(&slow.volume.handle_of(b"large")).unwrap();
    let buffer = dying.buffer(4096).unwrap();
    let mut queues = dying.queues(1, 16).unwrap();
    let mut pair = queues.pair(0).unwrap();
    pair.submit(Operation::Flush, block_of(&written, &buffer)).unwrap();
    pair.ring().unwrap();
    slow.gate.wait_for(1);
    dying.end();
    let ino = slow.homifs.volume().lookup(slow.homifs.volume().root(), b"large").unwrap().unwrap();
    let start = Instant::now();
    // The daemon hears of its end within this time, mostly at once.
    while start.elapsed() < Duration::from_millis(500) {
        slow.homifs.recall(ino);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(start.elapsed() < PATIENCE, "taking a file back took {:?}", start.elapsed());
    assert!(!large.is_held());
    slow.gate.open();
}

#[test]
fn file_is_closed_when_its_commands_are_over_and_its_number_serves_another_at_once() {
    let Some(slow) = Slow::new() else { return };
    let server = Server::start(&slow.homifs, 1, ClientLimits::default()).unwrap();
    let session = Session::connect(server.path()).unwrap();
    let mut reader = session.reader(64 << 10).unwrap();
    let buffer = session.buffer(4096).unwrap();
    let mut queues = session.queues(1, 16).unwrap();
    let mut pair = queues.pair(0).unwrap();
    let written = slow.open_to_write(&session);
    let nsid = written.nsid();
    pair.submit(Operation::Flush, block_of(&written, &buffer)).unwrap();
    pair.ring().unwrap();
    slow.gate.wait_for(1);
    let closing = thread::spawn(move || drop(written));
    thread::sleep(Duration::from_millis(100));
    assert!(!closing.is_finished(), "the file is closed while a command on it is in flight");
    slow.gate.open();
    closing.join().unwrap();
    let large = session.open_handle(&slow.volume.handle_of(b"large")).unwrap();
    assert_eq!(large.nsid(), nsid);
    assert_eq!(reader.read(&large, 0, &mut vec![0; 4096]).unwrap(), 4096);
    assert_eq!(answer(&mut pair).status.code(), 0);
}

#[test]
fn pair_stays_with_one_of_more_mediators_than_there_are_pairs() {
    let Some(volume) = Volume::new() else { return };
    // This device ends what is in flight with an error when another thread than its own polls.
    let homifs = volume.mount(false);
    let limits = ClientLimits { queues: 1, ..ClientLimits::default() };
    let server = Server::start(&homifs, 4, limits).unwrap();
    let session = Session::connect(server.path()).unwrap();
    let file = session.open_handle(&volume.of(&homifs).handle_of(b"large")).unwrap();
    let buffer = session.buffer(64 << 10).unwrap();
    let mut queues = session.queues(1, 64).unwrap();
    let mut pair = queues.pair(0).unwrap();
    let mut left = 20_000;
    while left > 0 || pair.in_flight() > 0 {
        while left > 0 && pair.submit(Operation::Read, block_of(&file, &buffer)).is_some() {
            left -= 1;
        }
        pair.ring().unwrap();
        let done = answer(&mut pair);
        assert_eq!(done.status.code(), 0, "with {left} left: {:?}", done.status);
    }
}

#[test]
fn reads_that_no_queue_of_the_engine_brings_hold_nobody_up() {
    let Some(volume) = Volume::new() else { return };
    let gate = Arc::<Gate>::default();
    let hook = Arc::clone(&gate);
    let homifs = volume.mount_as(false, MountOptions::default(), Some(Arc::new(move || hook.pass())));
    let server = Arc::new(Server::start(&homifs, 0, ClientLimits::default()).unwrap());
    let volume = volume.of(&homifs);
    let (slow, quick) = (Session::connect(server.path()).unwrap(), Session::connect(server.path()).unwrap());
    let short = slow.open_handle(&volume.handle_of(b"short")).unwrap();
    let large = quick.open_handle(&volume.handle_of(b"large")).unwrap();
    let mut reader = quick.reader(4096).unwrap();
    // More ends of files in one turn than there are places for.
    const PAIRS: usize = 2;
    const COUNT: usize = 60;
    let block = usize::try_from(short.block_size()).unwrap();
    let buffer = slow.buffer(PAIRS * COUNT * block).unwrap();
    let mut queues = slow.queues(2, 64).unwrap();
    let mut pairs = [queues.pair(0).unwrap(), queues.pair(1).unwrap()];
    for (number, pair) in pairs.iter_mut().enumerate() {
        for place in 0..COUNT {
            let iova = buffer.iova() + u64::try_from((number * COUNT + place) * block).unwrap();
            let length = short.block_size();
            pair.read(Command { nsid: short.nsid(), block: 1, blocks: 1, iova, length }).unwrap();
        }
        pair.ring().unwrap();
    }
    // The mediator sees both pairs at its first look.
    let (over, mediator) = (Arc::<AtomicBool>::default(), Arc::clone(&server));
    let seen = Arc::clone(&over);
    let working = thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            mediator.work();
        }
    });
    gate.wait_for(1);
    let start = Instant::now();
    let mut bytes = vec![0; 4096];
    for _ in 0..100 {
        assert_eq!(reader.read(&large, 4096, &mut bytes).unwrap(), 4096);
    }
    assert!(start.elapsed() < PATIENCE, "100 reads beside a client that waits took {:?}", start.elapsed());
    assert!(pairs.iter_mut().any(|pair| pair.in_flight() > 0), "the gate is closed");
    gate.open();
    for pair in &mut pairs {
        for _ in 0..COUNT {
            assert_eq!(answer(pair).status.code(), 0);
        }
    }
    let mut all = vec![0; PAIRS * COUNT * block];
    buffer.memory().read(0, &mut all);
    for (place, bytes) in all.chunks_exact(block).enumerate() {
        let (kept, rest) = bytes.split_at(700 - block);
        assert!(kept.iter().all(|&byte| byte == 9) && rest.iter().all(|&byte| byte == 0), "read {place}");
    }
    over.store(true, Ordering::Relaxed);
    working.join().unwrap();
}
