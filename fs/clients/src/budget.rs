//! What requests on the socket may cost. Commands in queues cost a mediator's time, and are shared out there; requests
//! cost time of threads beside the mediators, which the system would share out by the number of threads, so that whoever
//! asks by many connections would get most of the machine. So they may take a part of it and no more, of which each user
//! has the same share. Who takes more is not refused anything, but waits.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::guests::Guests;

/// Requests may take one part in so many of the time of all processors, and one processor's time at most.
const PART: u32 = 8;
/// A user who asked for nothing for so long may take at once what it had not taken.
const SAVED: Duration = Duration::from_millis(500);
/// Nobody waits longer than this for a request that is done, whatever it cost.
const MOST: Duration = Duration::from_secs(2);
/// How long work goes on before it is looked at what it took.
const LOOK: Duration = Duration::from_millis(1);
/// What a turn costs beside what its thread can tell: the system's part in waking it, and in getting it there.
const TURN: Duration = Duration::from_micros(5);

/// Who is in, and what the requests of each user took.
#[derive(Debug)]
pub(crate) struct Budget {
    guests: Arc<Guests>,
    start: Instant,
    /// How much longer than it worked somebody who is alone in his debts has to wait.
    pace: f64,
    /// By user, when what was taken will be made up for.
    even: Mutex<HashMap<u32, Duration>>,
}

/// A user's part of it.
#[derive(Debug, Clone)]
pub(crate) struct Purse {
    budget: Arc<Budget>,
    uid: u32,
}

impl Budget {
    pub(crate) fn new(guests: Arc<Guests>) -> Arc<Self> {
        let processors =
            thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        let pace = (f64::from(PART) / f64::from(processors)).max(1.0);
        Arc::new(Self { guests, start: Instant::now(), pace, even: Mutex::default() })
    }

    pub(crate) fn purse(self: &Arc<Self>, uid: u32) -> Purse {
        Purse { budget: Arc::clone(self), uid }
    }

    fn charge(&self, uid: u32, time: Duration, now: Duration) {
        let (all, users) = self.guests.count();
        // Whoever is alone takes nothing from anybody.
        if all <= 1 {
            return;
        }
        let share = time.mul_f64(self.pace * f64::from(u32::try_from(users.max(1)).unwrap_or(u32::MAX)));
        let mut even = self.even.lock();
        even.retain(|&other, until| other == uid || *until > now);
        let until = even.entry(uid).or_default();
        *until = (*until).max(now).saturating_add(share).min(now + SAVED + MOST);
    }

    fn wait(&self, uid: u32, now: Duration) -> Duration {
        let until = self.even.lock().get(&uid).copied().unwrap_or_default();
        until.saturating_sub(now + SAVED)
    }
}

impl Purse {
    /// Notes work for its user.
    pub(crate) fn charge(&self, time: Duration) {
        self.budget.charge(self.uid, time, self.budget.start.elapsed());
    }

    /// How long its user has to wait before it may ask again.
    pub(crate) fn wait(&self) -> Duration {
        self.budget.wait(self.uid, self.budget.start.elapsed())
    }

    /// Does something on the user's account.
    pub(crate) fn pay<T>(&self, work: impl FnOnce(&Meter<'_>) -> T) -> T {
        let meter = Meter { purse: self, paid: Cell::new(thread_time()), looked: Cell::new(Instant::now()) };
        let done = work(&meter);
        meter.settle(TURN);
        done
    }
}

/// Counts what somebody's work takes.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    purse: &'a Purse,
    /// Time of the thread that is paid.
    paid: Cell<Duration>,
    looked: Cell<Instant>,
}

impl Meter<'_> {
    /// Keeps to what the user may take, in the middle of something that takes long, on a thread that may sleep.
    pub(crate) fn pace(&self) {
        if self.looked.get().elapsed() >= LOOK {
            self.settle(Duration::ZERO);
            thread::sleep(self.purse.wait());
            self.looked.set(Instant::now());
        }
    }

    fn settle(&self, more: Duration) {
        let now = thread_time();
        self.purse.charge(now.saturating_sub(self.paid.replace(now)) + more);
    }
}

/// What this thread worked since it began, not counting what others did meanwhile. By the C library: where valgrind has hidden
/// the kernel's page of clocks, rustix reads it all the same.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A budget of a machine with this pace, and the places of users that are in.
    fn budget(pace: f64, users: &[u32]) -> (Arc<Budget>, Vec<crate::guests::Place>) {
        let guests = Guests::new(64);
        let places = users.iter().map(|&uid| guests.let_in(uid).unwrap()).collect();
        let budget = Budget { guests, start: Instant::now(), pace, even: Mutex::default() };
        (Arc::new(budget), places)
    }

    /// What a user works in ten seconds who asks again as soon as it may.
    fn worked(budget: &Budget, uid: u32, each: Duration) -> Duration {
        let (mut now, mut worked) = (Duration::from_secs(100), Duration::ZERO);
        let end = now + Duration::from_secs(10);
        while now < end {
            worked += each;
            now += each;
            budget.charge(uid, each, now);
            now += budget.wait(uid, now);
        }
        worked
    }

    #[test]
    fn requests_take_their_part_and_what_was_saved() {
        for each in [Duration::from_micros(30), Duration::from_millis(20)] {
            let (budget, _places) = budget(4.0, &[1000, 1000]);
            let worked = worked(&budget, 1000, each).as_secs_f64();
            assert!((2.5..2.7).contains(&worked), "{each:?}: {worked} s in 10 s");
        }
    }

    #[test]
    fn users_have_the_same_share() {
        let (budget, _places) = budget(4.0, &[1000, 1001, 1001]);
        for uid in [1000, 1001] {
            let worked = worked(&budget, uid, Duration::from_micros(30)).as_secs_f64();
            assert!((1.2..1.4).contains(&worked), "user {uid}: {worked} s in 10 s");
        }
    }

    #[test]
    fn whoever_is_alone_waits_for_nobody() {
        let (budget, _places) = budget(4.0, &[1000]);
        let worked = worked(&budget, 1000, Duration::from_millis(1));
        assert!(worked >= Duration::from_secs(10), "{worked:?}");
    }

    #[test]
    fn what_took_long_is_not_held_against_anybody_for_ever() {
        let (budget, _places) = budget(8.0, &[1000, 1001]);
        let now = Duration::from_secs(5);
        budget.charge(1000, Duration::from_secs(60), now);
        assert_eq!(budget.wait(1000, now), MOST);
        assert_eq!(budget.wait(1001, now), Duration::ZERO);
    }
}
