//! The threads of a controller: they poll while there is work and sleep while there is none.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::controller::Inner;

/// How long a thread waits for a backing that works on something, while nothing new comes.
const BACKING_WAIT: Duration = Duration::from_micros(50);
/// Rounds with nothing to do between looks at the clock.
const ROUNDS: u32 = 32;

/// The threads of one controller.
#[derive(Debug)]
pub(crate) struct Crew {
    stop: Arc<AtomicBool>,
    waker: Waker,
    members: Mutex<Vec<JoinHandle<()>>>,
}

/// Wakes threads that sleep.
#[derive(Debug, Clone)]
pub(crate) struct Waker {
    threads: Arc<[Thread]>,
}

impl Waker {
    pub(crate) fn wake_all(&self) {
        self.threads.iter().for_each(Thread::unpark);
    }
}

impl Crew {
    pub(crate) fn start(inner: &Arc<Inner>, count: usize) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut members = Vec::with_capacity(count);
        for number in 0..count {
            let (inner, stop) = (Arc::clone(inner), Arc::clone(&stop));
            let name = format!("nvme-{number}");
            let member = thread::Builder::new().name(name).spawn(move || work(&inner, number, &stop))?;
            members.push(member);
        }
        let threads = members.iter().map(|member| member.thread().clone()).collect();
        Ok(Self { stop, waker: Waker { threads }, members: Mutex::new(members) })
    }

    /// Whether threads work on the controller.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.waker.threads.is_empty() && !self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Wakes whoever works on a queue.
    pub(crate) fn wake(&self, queue: u16) {
        let count = self.waker.threads.len();
        let place = usize::from(queue).saturating_sub(1).checked_rem(count);
        if let Some(thread) = place.and_then(|place| self.waker.threads.get(place)) {
            thread.unpark();
        }
    }

    /// Ends all threads and waits for them.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake_all();
        for member in self.members.lock().drain(..) {
            if member.join().is_err() {
                tracing::error!("a thread of a controller had panicked");
            }
        }
    }
}

fn work(inner: &Inner, number: usize, stop: &AtomicBool) {
    let Some(slot) = inner.slots.get(number) else { return };
    let options = &inner.shared.options;
    let mut idle = 0_u32;
    let mut idle_since = None;
    while !stop.load(Ordering::Relaxed) {
        if inner.is_idle() {
            // What it had begun comes to its end, which resets wait for.
            let mut slot = slot.lock();
            slot.collect(&inner.shared, Duration::ZERO);
            slot.let_go(&inner.shared);
            drop(slot);
            thread::park_timeout(options.nap);
            continue;
        }
        let wait = if idle > ROUNDS { BACKING_WAIT } else { Duration::ZERO };
        let mut worked = slot.lock().round(&inner.shared, wait);
        // The first also has the admin queue.
        if number == 0 {
            worked |= inner.work_on_admin();
        }
        if worked {
            if idle_since.take().is_some() {
                inner.announce(number, false);
            }
            idle = 0;
            continue;
        }
        idle = idle.saturating_add(1);
        if !idle.is_multiple_of(ROUNDS) {
            std::hint::spin_loop();
            continue;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() < options.spin {
            thread::yield_now();
            continue;
        }
        // Hosts with doorbells of their own are told that they must ring from now on; then one more look, since they may
        // have written before they saw that.
        inner.announce(number, true);
        let mut missed = slot.lock().round(&inner.shared, Duration::ZERO);
        if number == 0 {
            missed |= inner.work_on_admin();
        }
        if !missed {
            let busy = {
                let mut slot = slot.lock();
                // Whoever takes memory away need not wait for a thread that sleeps.
                slot.let_go(&inner.shared);
                slot.in_flight() > 0
            };
            if number == 0 {
                inner.admin.lock().let_go(&inner.shared);
            }
            thread::park_timeout(if busy { BACKING_WAIT } else { nap(since.elapsed(), options.nap) });
        }
    }
}

/// Naps grow with the time that nothing happened, a tenth of it.
fn nap(idle: Duration, most: Duration) -> Duration {
    (idle / 10).clamp(Duration::from_micros(20), most)
}
