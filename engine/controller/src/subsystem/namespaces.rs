//! The namespaces of a subsystem by their numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::namespace::{Namespace, NamespaceError, NamespaceOptions};

/// Largest number of a namespace (NN of Identify Controller).
pub const NAMESPACES_MOST: u32 = 1024;

/// By number less one.
type Table = Vec<Option<Arc<Namespace>>>;

/// The namespaces of a subsystem. They can appear and go at any time, from any thread.
///
/// Those who carry out commands hold a [`NamespaceView`] each, which costs one atomic load to keep up to date.
#[derive(Debug, Default)]
pub struct Namespaces {
    table: Mutex<Arc<Table>>,
    generation: AtomicU64,
}

impl Namespaces {
    pub(crate) fn add(
        &self,
        options: NamespaceOptions,
        salt: &str,
    ) -> Result<Arc<Namespace>, NamespaceError> {
        let mut table = self.lock();
        let nsid = match options.nsid {
            Some(nsid) if place(nsid).is_some() && find(&table, nsid).is_none() => nsid,
            Some(nsid) => return Err(NamespaceError::Nsid(nsid)),
            None => (1..=NAMESPACES_MOST)
                .find(|&nsid| find(&table, nsid).is_none())
                .ok_or(NamespaceError::Full)?,
        };
        let namespace = Arc::new(Namespace::new(nsid, options, salt)?);
        self.put(&mut table, nsid, Some(Arc::clone(&namespace)));
        Ok(namespace)
    }

    pub(crate) fn remove(&self, nsid: u32) -> Option<Arc<Namespace>> {
        let mut table = self.lock();
        let gone = find(&table, nsid)?.clone();
        self.put(&mut table, nsid, None);
        Some(gone)
    }

    /// The namespace of this number, where there is one.
    #[must_use]
    pub fn get(&self, nsid: u32) -> Option<Arc<Namespace>> {
        find(&self.lock(), nsid).cloned()
    }

    /// All of them, by number.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Namespace>> {
        self.lock().iter().flatten().cloned().collect()
    }

    /// Whether this could be the number of a namespace (a valid NSID; Base, section 3.2.1.2).
    #[must_use]
    pub fn is_valid(nsid: u32) -> bool {
        place(nsid).is_some()
    }

    fn put(&self, table: &mut MutexGuard<'_, Arc<Table>>, nsid: u32, namespace: Option<Arc<Namespace>>) {
        let Some(place) = place(nsid) else { return };
        let mut changed = Table::clone(table);
        if changed.len() <= place {
            changed.resize(place + 1, None);
        }
        if let Some(entry) = changed.get_mut(place) {
            *entry = namespace;
        }
        **table = Arc::new(changed);
        // Release: who sees the new number sees the new table.
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(nsid: u32) -> Option<usize> {
    if nsid > NAMESPACES_MOST { None } else { usize::try_from(nsid.checked_sub(1)?).ok() }
}

fn find(table: &Table, nsid: u32) -> Option<&Arc<Namespace>> {
    table.get(place(nsid)?)?.as_ref()
}

/// One processor's look at the namespaces.
///
/// It keeps those that it sees, so a processor that goes to sleep [lets go](Self::release) first.
#[derive(Debug, Default)]
pub struct NamespaceView {
    table: Arc<Table>,
    /// One more than what was seen; 0 before anything was.
    generation: u64,
}

impl NamespaceView {
    /// Sees what is there now.
    #[inline]
    pub fn refresh(&mut self, namespaces: &Namespaces) {
        let generation = namespaces.generation.load(Ordering::Acquire).wrapping_add(1);
        if generation != self.generation {
            // A change between the two is seen by the next call, for which the number then differs.
            self.table = Arc::clone(&namespaces.lock());
            self.generation = generation;
        }
    }

    /// Sees nothing any more, until it is refreshed.
    pub fn release(&mut self) {
        *self = Self::default();
    }

    /// The namespace of this number, where there is one.
    #[must_use]
    #[inline]
    pub fn get(&self, nsid: u32) -> Option<&Arc<Namespace>> {
        find(&self.table, nsid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::backing;
    use super::*;

    fn options(nsid: Option<u32>) -> NamespaceOptions {
        NamespaceOptions { nsid, ..NamespaceOptions::new(backing(8192)) }
    }

    fn numbers(namespaces: &Namespaces) -> Vec<u32> {
        namespaces.all().iter().map(|namespace| namespace.nsid()).collect()
    }

    #[test]
    fn first_free_number_is_given_and_taken_ones_are_refused() {
        let namespaces = Namespaces::default();
        for nsid in [None, Some(3), None, None] {
            namespaces.add(options(nsid), "").unwrap();
        }
        assert_eq!(numbers(&namespaces), [1, 2, 3, 4]);
        for nsid in [0, 3, NAMESPACES_MOST + 1, u32::MAX] {
            assert_eq!(namespaces.add(options(Some(nsid)), "").err(), Some(NamespaceError::Nsid(nsid)));
        }
        namespaces.remove(2).unwrap();
        assert!(namespaces.remove(2).is_none());
        assert_eq!(namespaces.add(options(None), "").unwrap().nsid(), 2);
    }

    #[test]
    fn as_many_as_there_are_numbers_and_no_more() {
        let namespaces = Namespaces::default();
        for _ in 0..NAMESPACES_MOST {
            namespaces.add(options(None), "").unwrap();
        }
        assert_eq!(namespaces.add(options(None), "").err(), Some(NamespaceError::Full));
    }

    #[test]
    fn view_sees_changes_when_it_is_refreshed_and_keeps_nothing_when_released() {
        let namespaces = Namespaces::default();
        let mut view = NamespaceView::default();
        view.refresh(&namespaces);
        let weak = Arc::downgrade(&namespaces.add(options(None), "").unwrap());
        assert!(view.get(1).is_none());
        view.refresh(&namespaces);
        assert_eq!(view.get(1).map(|namespace| namespace.nsid()), Some(1));
        assert!(view.get(0).is_none() && view.get(u32::MAX).is_none());
        drop(namespaces.remove(1));
        assert!(weak.upgrade().is_some(), "the view has it");
        view.release();
        assert!(weak.upgrade().is_none());
        view.refresh(&namespaces);
        assert!(view.get(1).is_none());
    }
}
