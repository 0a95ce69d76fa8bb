//! Numbered places for things that come and go, all allocated at the start.

/// At most a fixed number of things, each under a number that is used again once it left.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slots<T> {
    /// `count` free places.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { places: (0..count).map(|_| None).collect(), free: (0..count).rev().collect() }
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether all are.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Gives `thing` a number, or gives it back where all are taken.
    ///
    /// # Errors
    /// The thing.
    pub fn insert(&mut self, thing: T) -> Result<usize, T> {
        let Some(number) = self.free.pop() else { return Err(thing) };
        match self.places.get_mut(number) {
            Some(place) => {
                *place = Some(thing);
                Ok(number)
            }
            None => Err(thing),
        }
    }

    /// What is in a place.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.places.get_mut(number)?.as_mut()
    }

    /// Takes it out.
    pub fn remove(&mut self, number: usize) -> Option<T> {
        let thing = self.places.get_mut(number)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    /// Does something to everything.
    pub fn each(&mut self, apply: impl FnMut(&mut T)) {
        self.places.iter_mut().flatten().for_each(apply);
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        let count = self.places.len();
        (0..count).filter_map(|number| self.remove(number))
    }
}
