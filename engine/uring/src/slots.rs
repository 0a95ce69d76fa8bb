//! Numbered places for things that come and go, all allocated at the start.

/// At most a fixed number of things, each under a number that is used again once it left.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slots<T> {
    pub(crate) fn new(count: usize) -> Self {
        Self { places: (0..count).map(|_| None).collect(), free: (0..count).rev().collect() }
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Gives `thing` a number, or gives it back where all are taken.
    pub(crate) fn insert(&mut self, thing: T) -> Result<usize, T> {
        let Some(number) = self.free.pop() else { return Err(thing) };
        match self.places.get_mut(number) {
            Some(place) => {
                *place = Some(thing);
                Ok(number)
            }
            None => Err(thing),
        }
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.places.get_mut(number)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<T> {
        let thing = self.places.get_mut(number)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    /// Does something to everything.
    pub(crate) fn each(&mut self, apply: impl FnMut(&mut T)) {
        self.places.iter_mut().flatten().for_each(apply);
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        let count = self.places.len();
        (0..count).filter_map(|number| self.remove(number))
    }
}
