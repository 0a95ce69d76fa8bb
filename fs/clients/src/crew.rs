//! The threads that carry out clients' commands. Each works for all clients in turn, on its share of their queues.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::Client;
use crate::rota::Rota;

/// How long a thread polls with nothing to do before it sleeps.
const SPIN: Duration = Duration::from_micros(200);
/// Longest sleep: an accelerator cannot wake us.
const NAP: Duration = Duration::from_millis(1);
/// How long a thread waits for the device while it works on something.
const DEVICE_WAIT: Duration = Duration::from_micros(50);
/// Rounds with nothing to do between looks at the clock.
const ROUNDS: u32 = 32;

/// The threads, and the clients that they work for.
#[derive(Debug)]
pub(crate) struct Crew {
    shared: Arc<SharedList>,
    members: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct SharedList {
    stop: AtomicBool,
    generation: AtomicU64,
    /// Whose turn it is where callers work.
    callers: Mutex<(Rota, u64)>,
    clients: Mutex<Arc<Vec<Arc<Client>>>>,
}

impl Crew {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let shared = Arc::new(SharedList::default());
        let mut members = Vec::with_capacity(count);
        for number in 0..count {
            let shared = Arc::clone(&shared);
            let name = format!("mediator-{number}");
            members.push(thread::Builder::new().name(name).spawn(move || work(&shared, number))?);
        }
        Ok(Self { shared, members: Mutex::new(members) })
    }

    pub(crate) fn clients(&self) -> Arc<Vec<Arc<Client>>> {
        Arc::clone(&self.shared.clients.lock())
    }

    pub(crate) fn add(&self, client: Arc<Client>) {
        self.change(|clients| clients.push(client));
        self.wake();
    }

    pub(crate) fn remove(&self, id: u64) {
        self.change(|clients| clients.retain(|client| client.id != id));
        // So that they let go of it.
        self.wake();
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Client>>)) {
        let mut place = self.shared.clients.lock();
        let mut clients = Vec::clone(&place);
        change(&mut clients);
        *place = Arc::new(clients);
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    /// Wakes whoever sleeps.
    pub(crate) fn wake(&self) {
        for member in &*self.members.lock() {
            member.thread().unpark();
        }
    }

    /// Works for each client once, as the first thread would; whether there was anything to do.
    pub(crate) fn work(&self) -> bool {
        let mut turn = self.shared.callers.lock();
        let (rota, seen) = &mut *turn;
        self.shared.refresh(rota, seen);
        rota.round(0, Duration::ZERO)
    }

    /// Ends the threads.
    pub(crate) fn end(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        for member in self.members.lock().drain(..) {
            if member.join().is_err() {
                tracing::error!("a mediator had panicked");
            }
        }
    }
}

fn work(shared: &SharedList, number: usize) {
    let mut rota = Rota::default();
    let mut seen = u64::MAX;
    let (mut idle, mut idle_since) = (0_u32, None);
    while !shared.stop.load(Ordering::Relaxed) {
        shared.refresh(&mut rota, &mut seen);
        // With one client, the wait for the device is where the thread can rest; with several it would hold others up.
        let wait = if idle > ROUNDS && rota.clients().len() == 1 { DEVICE_WAIT } else { Duration::ZERO };
        if rota.round(number, wait) {
            (idle, idle_since) = (0, None);
            continue;
        }
        idle = idle.saturating_add(1);
        if !idle.is_multiple_of(ROUNDS) {
            std::hint::spin_loop();
            continue;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if rota.clients().len() > 0 && since.elapsed() < SPIN {
            thread::yield_now();
            continue;
        }
        rest(&mut rota, number, since.elapsed());
    }
}

impl SharedList {
    /// Lets a thread know who there is now.
    fn refresh(&self, rota: &mut Rota, seen: &mut u64) {
        let generation = self.generation.load(Ordering::Acquire);
        if generation != *seen {
            rota.renew(&self.clients.lock().clone());
            *seen = generation;
        }
    }
}

/// Says that it sleeps, looks once more, and sleeps.
fn rest(rota: &mut Rota, number: usize, idle: Duration) {
    rota.clients().for_each(|client| client.note_sleep(true));
    if !rota.round(number, Duration::ZERO) {
        let busy = rota.clients().any(|client| client.queues.in_flight(number) > 0);
        let nap = if busy { DEVICE_WAIT } else { (idle / 10).clamp(Duration::from_micros(20), NAP) };
        // Without clients there is nobody who could ring.
        thread::park_timeout(if rota.clients().len() == 0 { Duration::from_secs(1) } else { nap });
    }
    rota.clients().for_each(|client| client.note_sleep(false));
}
