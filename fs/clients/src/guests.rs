//! Who is in: as many at a time as the mount allows, and of one user no more than half of them, so that nobody can lock
//! the others out. Root can do worse, and has no such bound.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Everybody who is in.
#[derive(Debug)]
pub(crate) struct Guests {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    /// Those who have somebody in.
    by_user: HashMap<u32, usize>,
}

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// All places are taken.
    Full,
    /// Its user has as many as one may.
    Greedy,
}

/// Somebody's place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    guests: Arc<Guests>,
    uid: u32,
}

impl Guests {
    /// Nobody, and room for `most`.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::default() })
    }

    /// Gives a place to somebody of this user.
    pub(crate) fn let_in(self: &Arc<Self>, uid: u32) -> Result<Place, TurnedAway> {
        let mut inside = self.inside.lock();
        if inside.all >= self.most {
            return Err(TurnedAway::Full);
        }
        let of_user = inside.by_user.get(&uid).copied().unwrap_or(0);
        if uid != 0 && of_user >= self.most.div_ceil(2) {
            return Err(TurnedAway::Greedy);
        }
        inside.all += 1;
        inside.by_user.insert(uid, of_user + 1);
        Ok(Place { guests: Arc::clone(self), uid })
    }

    /// How many are in, and of how many users.
    pub(crate) fn count(&self) -> (usize, usize) {
        let inside = self.inside.lock();
        (inside.all, inside.by_user.len())
    }

    /// Whether anybody is in.
    pub(crate) fn are_there(&self) -> bool {
        self.inside.lock().all > 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.guests.inside.lock();
        inside.all -= 1;
        let left = inside.by_user.get(&self.uid).map_or(0, |count| count.saturating_sub(1));
        if left > 0 {
            inside.by_user.insert(self.uid, left);
        } else {
            inside.by_user.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_has_half_of_the_places_and_root_all_that_are_left() {
        let guests = Guests::new(5);
        let mut places: Vec<Place> = (0..3).map(|_| guests.let_in(1000).unwrap()).collect();
        assert_eq!(guests.let_in(1000).unwrap_err(), TurnedAway::Greedy);
        places.push(guests.let_in(1001).unwrap());
        places.push(guests.let_in(0).unwrap());
        assert_eq!(guests.let_in(0).unwrap_err(), TurnedAway::Full);
        drop(places.remove(0));
        assert!(guests.let_in(1000).is_ok());
        drop(places);
        assert!(!guests.are_there());
        let all: Vec<Place> = (0..5).map(|_| guests.let_in(0).unwrap()).collect();
        assert!(guests.are_there() && all.len() == 5);
    }

    #[test]
    fn single_place_is_for_anybody() {
        let guests = Guests::new(1);
        let place = guests.let_in(1000).unwrap();
        assert_eq!(guests.let_in(1001).unwrap_err(), TurnedAway::Full);
        drop(place);
        assert!(guests.let_in(1001).is_ok());
        assert!(guests.inside.lock().by_user.is_empty());
    }
}
