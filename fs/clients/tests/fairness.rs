//! One mediator and two clients: what one of them does must not cost the other more than its share.
#![allow(missing_docs, reason = "tests are documented by their names")]
#![allow(unsafe_code, reason = "a clock of the system's is read")]

mod volume;

use std::time::Duration;

use homi_client::{Command, OpenFile, QueuePair, Session};
use homifs_clients::{ClientLimits, Server};

use volume::Volume;

/// How long the mediator works in one measurement.
const SPELL: Duration = Duration::from_millis(15);
/// Measurements of each kind; they take turns, so that what else the machine does concerns all alike.
const TURNS: usize = 9;

/// What a client fills its queues with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Reads of a page.
    Pages,
    /// Reads as long as they may be.
    Long,
    /// Commands that are all refused, and told of in logs.
    Refused,
}

/// A client that keeps its queues as full as it can.
struct Client {
    file: OpenFile,
    buffer: homi_client::Buffer,
    pairs: Vec<QueuePair>,
    depth: u32,
    fill: Fill,
    done: u64,
}

impl Client {
    fn new(server: &Server, volume: &Volume, pairs: u32, depth: u32, fill: Fill) -> Self {
        let session = Session::connect(server.path()).unwrap();
        let file = session.open_handle(&volume.handle_of(b"large")).unwrap();
        let buffer = session.buffer(1 << 20).unwrap();
        let mut queues = session.queues(pairs, (depth + 1).next_power_of_two()).unwrap();
        let pairs = (0..pairs).filter_map(|number| queues.pair(number)).collect();
        Self { file, buffer, pairs, depth, fill, done: 0 }
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
        for pair in &mut self.pairs {
            while let Some(done) = pair.reap() {
                assert_eq!(done.status.code() == 0, self.fill != Fill::Refused, "{:?}", done.status);
                self.done += 1;
            }
            while pair.in_flight() < self.depth {
                pair.read(command).unwrap();
            }
            pair.ring().unwrap();
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
    let others = [(1, 32, Fill::Pages), (64, 63, Fill::Pages), (16, 63, Fill::Long), (64, 63, Fill::Refused)];
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
    for turn in 0..=TURNS {
        for (server, clients, rates, _) in &mut contests {
            let rate = rate(server, clients);
            // The first is for caches and tables to be filled.
            if turn > 0 {
                rates.push(rate);
            }
        }
    }
    let rates: Vec<f64> = contests.iter().map(|(_, _, rates, _)| median(rates.clone())).collect();
    let [equal, greedy, long, hostile] = rates[..] else { unreachable!("there are four contests") };
    println!("beside an equal client {equal:.0}/s, greedy {greedy:.0}, long {long:.0}, hostile {hostile:.0}");
    for ((_, clients, _, fill), rate) in contests.iter().zip(&rates) {
        assert!(*rate >= equal * 0.8, "{fill:?}: {rate:.0} of {equal:.0} commands a second");
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
