//! Maps that wait to be looked at.

use std::time::{Duration, Instant};

use extents_core::ExtentMap;
use parking_lot::{Condvar, Mutex};

/// Claims that wait at most; more are let go, since nobody waits for the answer.
const MOST: usize = 4096;

/// What the kernel's driver said of a file.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ino: u64,
    pub(super) map: ExtentMap,
    /// How often it was looked at.
    pub(super) looks: u32,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    claims: Vec<(Instant, Claim)>,
    closed: bool,
}

impl Queue {
    /// Takes a claim that is to be looked at after a time; whether there was room.
    pub(super) fn add(&self, claim: Claim, after: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.claims.len() >= MOST {
            return false;
        }
        waiting.claims.push((Instant::now() + after, claim));
        self.arrived.notify_one();
        true
    }

    /// All whose time has come, once it has for one; `None` when nobody will ask any more.
    pub(super) fn next(&self) -> Option<Vec<Claim>> {
        let mut waiting = self.waiting.lock();
        while !waiting.closed {
            let now = Instant::now();
            let first = waiting.claims.iter().map(|(due, _)| *due).min();
            match first {
                Some(due) if due <= now => {
                    return Some(
                        waiting.claims.extract_if(.., |(due, _)| *due <= now).map(|(_, c)| c).collect(),
                    );
                }
                Some(due) => {
                    self.arrived.wait_until(&mut waiting, due);
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        None
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(ino: u64) -> Claim {
        Claim { ino, map: ExtentMap::default(), looks: 0 }
    }

    #[test]
    fn claims_come_when_their_time_has_come_and_no_more_than_there_is_room_for() {
        let queue = Queue::default();
        assert!(queue.add(claim(1), Duration::from_secs(3600)));
        assert!(queue.add(claim(2), Duration::from_millis(1)));
        let due: Vec<u64> = queue.next().unwrap().iter().map(|claim| claim.ino).collect();
        assert_eq!(due, [2]);
        while queue.add(claim(3), Duration::from_secs(3600)) {}
        assert_eq!(queue.waiting.lock().claims.len(), MOST);
        queue.close();
        assert!(queue.next().is_none());
    }
}
