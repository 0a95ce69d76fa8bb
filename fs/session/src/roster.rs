//! Which threads wait for requests, and which rest.
//!
//! The kernel gives a request to the thread that has waited longest. With many that wait, each request so wakes one whose
//! caches and processor have gone cold, which costs half of the speed of a single reader. So a few wait, and take turns; the
//! others rest, and the one that went to rest last is called when nobody waits any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};

/// So many threads wait at most.
const MOST_WAITING: usize = 4;

/// The threads of one session.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    waiting: AtomicUsize,
    resting: AtomicUsize,
    /// Those that rest, the last one last.
    bench: Mutex<Vec<Thread>>,
    over: AtomicBool,
}

// The counters are ordered among each other (`SeqCst`): whoever goes to rest counts itself and then looks whether anybody
// waits; whoever waits no more says so and then looks whether anybody rests. One of the two sees the other.

impl Roster {
    /// This thread is about to wait for a request. It rests first where enough others wait.
    pub(crate) fn wait(&self) {
        while self.waiting.fetch_add(1, Ordering::SeqCst) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if !self.rest() {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }

    /// This thread has a request.
    pub(crate) fn took(&self) {
        if self.waiting.fetch_sub(1, Ordering::SeqCst) == 1 && self.resting.load(Ordering::SeqCst) > 0 {
            self.call_one();
        }
    }

    /// There will be no more requests: nobody rests from now on.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        while self.call_one() {}
    }

    /// Rests until called. False where nobody else would take the next request, or there is none.
    fn rest(&self) -> bool {
        self.bench().push(thread::current());
        self.resting.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 || self.over.load(Ordering::SeqCst) {
            self.take_off();
            return false;
        }
        while self.is_resting() {
            thread::park();
        }
        true
    }

    fn is_resting(&self) -> bool {
        let own = thread::current().id();
        self.bench().iter().any(|thread| thread.id() == own)
    }

    /// Takes this thread off the bench, if nobody has called it yet.
    fn take_off(&self) {
        let own = thread::current().id();
        let mut bench = self.bench();
        if let Some(place) = bench.iter().position(|thread| thread.id() == own) {
            bench.remove(place);
            self.resting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Calls the thread that went to rest last; false where none rests.
    fn call_one(&self) -> bool {
        let called = self.bench().pop();
        if let Some(thread) = &called {
            self.resting.fetch_sub(1, Ordering::SeqCst);
            thread.unpark();
        }
        called.is_some()
    }

    fn bench(&self) -> std::sync::MutexGuard<'_, Vec<Thread>> {
        // Nothing is done with it that could be left half done.
        self.bench.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, Condvar, mpsc};
    use std::time::{Duration, Instant};

    use super::*;

    /// Requests as `/dev/fuse` has them; none when it is unmounted.
    #[derive(Default)]
    struct Device {
        requests: Mutex<(Vec<Request>, bool)>,
        more: Condvar,
    }

    type Request = Box<dyn FnOnce() + Send>;

    impl Device {
        fn ask(&self, request: impl FnOnce() + Send + 'static) {
            self.requests.lock().unwrap().0.push(Box::new(request));
            self.more.notify_one();
        }

        fn receive(&self) -> Option<Request> {
            let mut requests = self.requests.lock().unwrap();
            loop {
                match requests.0.pop() {
                    Some(request) => return Some(request),
                    None if requests.1 => return None,
                    None => requests = self.more.wait(requests).unwrap(),
                }
            }
        }

        fn unmount(&self) {
            self.requests.lock().unwrap().1 = true;
            self.more.notify_all();
        }
    }

    /// Serves on `threads` threads while `ask` asks.
    fn serve(threads: usize, ask: impl FnOnce(&Arc<Device>, &Roster)) {
        let (device, roster) = (Arc::new(Device::default()), Arc::new(Roster::default()));
        let (ended, ends) = mpsc::channel();
        for _ in 0..threads {
            let (device, roster, ended) = (Arc::clone(&device), Arc::clone(&roster), ended.clone());
            thread::spawn(move || {
                loop {
                    roster.wait();
                    let received = device.receive();
                    roster.took();
                    let Some(request) = received else { break };
                    request();
                }
                roster.end();
                ended.send(()).unwrap();
            });
        }
        ask(&device, &roster);
        device.unmount();
        for _ in 0..threads {
            ends.recv_timeout(Duration::from_secs(60)).expect("every thread ends");
        }
    }

    fn eventually(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(Instant::now() < until, "it does not come to be");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn few_wait_and_the_others_rest_until_all_are_needed() {
        const THREADS: usize = 16;
        serve(THREADS, |device, roster| {
            let rest = || roster.resting.load(Ordering::SeqCst) == THREADS - MOST_WAITING;
            for _ in 0..3 {
                eventually(rest);
                // Requests that wait for each other: each needs a thread.
                let all = Arc::new(Barrier::new(THREADS + 1));
                for _ in 0..THREADS {
                    let all = Arc::clone(&all);
                    device.ask(move || {
                        all.wait();
                    });
                }
                all.wait();
            }
            eventually(rest);
        });
    }

    #[test]
    fn request_is_taken_whenever_a_thread_is_free() {
        // All but one thread are kept busy all the time, and come and go meanwhile.
        const THREADS: usize = 6;
        serve(THREADS, |device, _| {
            for _ in 0..3000 {
                let all = Arc::new(Barrier::new(THREADS));
                for _ in 0..THREADS - 1 {
                    let all = Arc::clone(&all);
                    device.ask(move || {
                        all.wait();
                    });
                }
                let (answer, answered) = mpsc::channel();
                device.ask(move || answer.send(()).unwrap());
                answered.recv_timeout(Duration::from_secs(60)).expect("somebody takes it");
                all.wait();
            }
        });
    }

    #[test]
    fn session_ends_with_threads_at_rest() {
        for threads in [1, 2, MOST_WAITING, MOST_WAITING + 1, 40] {
            serve(threads, |_, _| {});
        }
    }
}
