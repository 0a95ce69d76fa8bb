//! Whose turn it is: one thread's time among its clients.
//!
//! A client's turn is bounded by how many commands are fetched in it, but commands differ: what is refused is logged, what
//! is small is copied, what is large is not. So what counts is the thread's own time: among clients that have something to
//! do, one that had more of it than another by more than [`SLACK`] waits until the others caught up. Nobody saves up turns
//! while it has nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Client;

/// How far a client may be ahead of another.
const SLACK: Duration = Duration::from_micros(50);

/// The state of one thread's clients.
#[derive(Debug, Default)]
pub(crate) struct Rota {
    clients: Vec<Turn>,
    /// Who goes first in the next round.
    first: usize,
}

/// What one client had.
#[derive(Debug)]
struct Turn {
    client: Arc<Client>,
    account: Account,
}

/// Time of one client's, as others are compared with it.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    spent: Duration,
    /// Whether there was something to do in its last turn.
    busy: bool,
}

impl Account {
    /// Notes a turn that took `time`; `least` is what the busiest of the others that wait had at least.
    fn note(&mut self, worked: bool, time: Duration, least: Option<Duration>) {
        if worked {
            self.spent += time;
        } else if let Some(least) = least {
            self.spent = self.spent.max(least);
        }
        self.busy = worked;
    }
}

/// The least that one of those had who have something to do.
fn least<'a>(accounts: impl Iterator<Item = &'a Account>) -> Option<Duration> {
    accounts.filter(|account| account.busy).map(|account| account.spent).min()
}

/// Whether it has to let others have their turn.
fn is_ahead(account: Account, least: Option<Duration>) -> bool {
    account.busy && least.is_some_and(|least| account.spent > least + SLACK)
}

impl Rota {
    /// Takes in who there is now.
    pub(crate) fn renew(&mut self, clients: &[Arc<Client>]) {
        let least = least(self.clients.iter().map(|turn| &turn.account)).unwrap_or_default();
        let mut before = std::mem::take(&mut self.clients);
        for client in clients {
            let known = before.iter().position(|turn| turn.client.id == client.id);
            self.clients.push(match known {
                Some(place) => before.swap_remove(place),
                None => Turn { client: Arc::clone(client), account: Account { spent: least, busy: false } },
            });
        }
    }

    /// Works for each client that is not ahead of others, another one first each time; whether there was anything to do.
    pub(crate) fn round(&mut self, worker: usize, wait: Duration) -> bool {
        let count = self.clients.len();
        if let [only] = &*self.clients {
            return only.client.queues.work(worker, wait);
        }
        self.first = self.first.wrapping_add(1);
        let mut worked = false;
        let mut now = Instant::now();
        for turn in 0..count {
            let least = least(self.clients.iter().map(|turn| &turn.account));
            let Some(turn) = self.clients.get_mut((self.first + turn) % count) else { continue };
            if is_ahead(turn.account, least) {
                worked = true;
                continue;
            }
            let did = turn.client.queues.work(worker, wait);
            let then = std::mem::replace(&mut now, Instant::now());
            turn.account.note(did, now - then, least);
            worked |= did;
        }
        worked
    }

    /// Everybody.
    pub(crate) fn clients(&self) -> impl ExactSizeIterator<Item = &Client> {
        self.clients.iter().map(|turn| &*turn.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves accounts whose turns take these times, always busy, and says what each had.
    fn serve(times: [u64; 2], idle: usize, rounds: usize) -> [u64; 2] {
        let mut accounts = [Account::default(); 2];
        let mut had = [0; 2];
        for round in 0..rounds {
            for place in 0..2 {
                let least = least(accounts.iter());
                if is_ahead(accounts[place], least) {
                    continue;
                }
                let works = place != 0 || round >= idle;
                accounts[place].note(works, Duration::from_micros(times[place]), least);
                had[place] += if works { times[place] } else { 0 };
            }
        }
        had
    }

    #[test]
    fn clients_with_turns_of_any_length_have_the_same_time() {
        for times in [[1, 1], [1, 40], [3, 500]] {
            let [a, b] = serve(times, 0, 10_000);
            assert!(a.abs_diff(b) <= times[1] + 60, "{times:?}: {a} and {b}");
        }
    }

    #[test]
    fn client_that_had_nothing_to_do_saves_nothing_up() {
        let [late, other] = serve([10, 10], 5000, 10_000);
        assert_eq!(other, 100_000, "nobody waits for one that has nothing to do");
        assert!(late.abs_diff(50_000) <= 60, "{late}");
    }
}
