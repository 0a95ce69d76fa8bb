//! One mediator and two clients: what one of them does must not cost the other more than its share.
#![allow(missing_docs, reason = "tests are documented by their names")]
#![allow(unsafe_code, reason = "a clock of the system's is read")]

mod volume;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use homi_client::{Command, OpenFile, QueuePair, QueueSet, Session};
use homifs_clients::{ClientLimits, Server};

use volume::Volume;

/// How long the mediator works in one measurement.
const SPELL: Duration = Duration::from_millis(15);
/// Measurements of each kind; they take turns, so that what else the machine does concerns all alike.
const TURNS: usize = 9;
/// How often all of it is measured anew where the machine did something else meanwhile.
const ATTEMPTS: usize = 5;

/// What a client fills its queues with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Reads of a page.
    Pages,
    /// Reads as long as they may be.
    Long,
    /// Commands that are all refused, and told of in logs.
    Refused,
    /// Verify and Compare, which are made of several steps elsewhere.
    Steps,
    /// Entries full of anything.
    Garbage,
    /// Reads of a page, and doorbells of another pair that are rung with any number all the time.
    Storm,
}

/// A client that keeps its queues as full as it can.
struct Client {
    file: OpenFile,
    buffer: homi_client::Buffer,
    queues: QueueSet,
    pairs: Vec<QueuePair>,
    depth: u32,
    fill: Fill,
    done: u64,
    /// The last number that was drawn.
    drawn: u64,
}

impl Client {
    fn new(server: &Server, volume: &Volume, pairs: u32, depth: u32, fill: Fill) -> Self {
        let session = Session::connect(server.path()).unwrap();
        let file = session.open_handle(&volume.handle_of(b"large")).unwrap();
        let buffer = session.buffer(1 << 20).unwrap();
        let mut queues = session.queues(pairs, (depth + 1).next_power_of_two()).unwrap();
        // Whoever storms keeps the last one for that.
        let used = if fill == Fill::Storm { pairs - 1 } else { pairs };
        let pairs = (0..used).filter_map(|number| queues.pair(number)).collect();
        Self { file, buffer, queues, pairs, depth, fill, done: 0, drawn: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Any number, the same ones in each run (Marsaglia's xorshift).
    fn draw(&mut self) -> u64 {
        self.drawn ^= self.drawn << 13;
        self.drawn ^= self.drawn >> 7;
        self.drawn ^= self.drawn << 17;
        self.drawn
    }

    /// Makes another command of the read at a place of a pair. The place stays its number.
    fn change(&mut self, pair: usize, place: u16) {
        let places = self.queues.places();
        let start = pair * places.stride + places.submissions + usize::from(place) * 64;
        let memory = Arc::clone(self.queues.memory());
        let words = memory.u64s_at(start, 8);
        let keep = |value: u64, number: u64| value & !0xffff_0000 | number << 16;
        match self.fill {
            Fill::Steps => {
                let opcode = if self.draw().is_multiple_of(2) { 0x05 } else { 0x0c };
                let value = words[0].load(Ordering::Relaxed) & !0xffff | opcode;
                words[0].store(value, Ordering::Relaxed);
            }
            Fill::Garbage => {
                words[0].store(keep(self.draw(), place.into()), Ordering::Relaxed);
                words[1..].iter().for_each(|word| word.store(self.draw(), Ordering::Relaxed));
            }
            _ => {}
        }
    }

    /// Rings the last pair's doorbells, which has no commands of anybody's.
    fn storm(&mut self) {
        let places = self.queues.places();
        let last = (usize::try_from(places.count).unwrap() - 1) * places.doorbell_stride;
        for bell in [places.tail_doorbell, places.head_doorbell] {
            let value = u32::try_from(self.draw() % 80).unwrap();
            self.queues.doorbells().u32_at(bell + last).store(value, Ordering::Release);
        }
    }

    fn command(&self) -> Command {
        let length = if self.fill == Fill::Long { 1 << 20 } else { 4096 };
        let nsid = if self.fill == Fill::Refused { self.file.nsid() + 77 } else { self.file.nsid() };
        let (blocks, iova) = (length >> self.file.block_shift(), self.buffer.iova());
        Command { nsid, block: 8, blocks, iova, length }
    }

    /// Takes what is answered, and fills the queues up.
    fn turn(&mut self) {
        let command = self.command();
        for number in 0..self.pairs.len() {
            while let Some(done) = self.pairs[number].reap() {
                let good = done.status.code() == 0;
                match self.fill {
                    Fill::Pages | Fill::Long | Fill::Storm => assert!(good, "{:?}", done.status),
                    Fill::Refused | Fill::Steps => assert!(!good, "{:?}", done.status),
                    Fill::Garbage => {}
                }
                self.done += 1;
            }
            while self.pairs[number].in_flight() < self.depth {
                let place = self.pairs[number].read(command).unwrap();
                self.change(number, place);
            }
            self.pairs[number].ring().unwrap();
        }
        if self.fill == Fill::Storm {
            self.storm();
        }
    }
}

/// How many commands of the first client are done in a second of the mediator's time.
fn rate(server: &Server, clients: &mut [Client; 2]) -> f64 {
    let before = clients[0].done;
    let mut worked = Duration::ZERO;
    while worked < SPELL {
        clients.iter_mut().for_each(Client::turn);
        let start = own_time();
        server.work();
        worked += own_time().saturating_sub(start);
    }
    f64::from(u32::try_from(clients[0].done - before).unwrap()) / worked.as_secs_f64()
}

/// Processor time of this thread: what else the machine does is none of the mediator's.
fn own_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: The kernel fills the structure, which lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[test]
fn greedy_and_hostile_clients_leave_another_its_share() {
    share_a_mediator(false);
}

#[test]
fn greedy_and_hostile_clients_of_an_image_in_memory_leave_another_its_share() {
    share_a_mediator(true);
}

fn share_a_mediator(at_once: bool) {
    let Some(volume) = Volume::new() else { return };
    let others = [
        (1, 32, Fill::Pages),
        (64, 63, Fill::Pages),
        (16, 63, Fill::Long),
        (64, 63, Fill::Refused),
        (64, 63, Fill::Steps),
        (64, 63, Fill::Garbage),
        (64, 63, Fill::Storm),
    ];
    // A server for each pair of clients; all are there at a time, so that their turns can alternate.
    let mut contests: Vec<_> = others
        .into_iter()
        .map(|(pairs, depth, fill)| {
            let homifs = volume.mount(at_once);
            let server = Server::start(&homifs, 0, ClientLimits::default()).unwrap();
            let volume = volume.of(&homifs);
            let clients = [
                Client::new(&server, &volume, 1, 32, Fill::Pages),
                Client::new(&server, &volume, pairs, depth, fill),
            ];
            (server, clients, Vec::new(), fill)
        })
        .collect();
    let mut worst = None;
    for attempt in 0..ATTEMPTS {
        for turn in 0..=TURNS {
            for (server, clients, rates, _) in &mut contests {
                let rate = rate(server, clients);
                // The first is for caches and tables to be filled.
                if turn > 0 {
                    rates.push(rate);
                }
            }
        }
        let rates = contests.iter_mut().map(|(_, _, rates, fill)| (median(std::mem::take(rates)), *fill));
        let rates: Vec<_> = rates.collect();
        println!("attempt {attempt}, commands a second beside each other: {rates:.0?}");
        let (equal, _) = rates[0];
        worst =
            rates.into_iter().find(|(rate, _)| *rate < equal * 0.8).map(|(rate, fill)| (rate, fill, equal));
        if worst.is_none() {
            break;
        }
    }
    assert!(worst.is_none(), "{worst:?}: commands a second, beside whom, and beside an equal client");
    for (_, clients, _, fill) in &contests {
        assert!(clients[1].done > 0, "{fill:?}: the other one had nothing");
    }
    // Whatever is in flight is brought to its end before the servers go.
    for (server, clients, ..) in &mut contests {
        while clients.iter().flat_map(|client| &client.pairs).any(|pair| pair.in_flight() > 0) {
            server.work();
            for pair in clients.iter_mut().flat_map(|client| &mut client.pairs) {
                while pair.reap().is_some() {}
                pair.ring().unwrap();
            }
        }
    }
}
