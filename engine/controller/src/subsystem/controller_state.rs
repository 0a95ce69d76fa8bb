//! What a subsystem knows of one controller.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use engine_nvme_spec::{ANY_NAMESPACE, CHANGED_NAMESPACES_MOST, Event, LogPage};

use super::error_log::ErrorLog;
use super::events::Events;
use super::features::Features;

/// A controller of a subsystem: all that a host can ask or set beside its queues.
#[derive(Debug)]
pub struct ControllerState {
    id: u16,
    pub(crate) events: Events,
    pub(crate) features: Features,
    pub(crate) errors: ErrorLog,
    pub(crate) changed: ChangedNamespaces,
}

impl ControllerState {
    pub(crate) fn new(id: u16) -> Self {
        Self {
            id,
            events: Events::default(),
            features: Features::default(),
            errors: ErrorLog::default(),
            changed: ChangedNamespaces::default(),
        }
    }

    /// Its number in the subsystem (CNTLID).
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Its asynchronous events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Its features, as those who carry out commands need them.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Its errors.
    #[must_use]
    pub fn errors(&self) -> &ErrorLog {
        &self.errors
    }

    /// Puts it back to where it was when it was made, as a controller level reset does (Base, section 3.7.2): features
    /// to their defaults, events and requests for them forgotten. The error log and what namespaces changed stay.
    pub fn reset(&self) {
        self.features.reset();
        self.events.reset();
    }

    /// A namespace changed.
    pub(crate) fn namespace_changed(&self, nsid: u32) {
        self.changed.insert(nsid);
        if self.features.tells_namespace_changes() {
            self.events.raise(Event::NAMESPACE_CHANGED);
        }
    }

    /// The host has read a log page and wants to hear of its events again; `read` bytes from the start on were read.
    pub(crate) fn page_was_read(&self, page: LogPage, read: usize) {
        if page == LogPage::CHANGED_NAMESPACES {
            self.changed.forget_read(read);
        }
        self.events.acknowledge(page, || page != LogPage::CHANGED_NAMESPACES || !self.changed.is_empty());
    }
}

/// The namespaces that changed since the host last looked (Base, section 5.1.12.1.5).
#[derive(Debug, Default)]
pub(crate) struct ChangedNamespaces(Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    now: BTreeSet<u32>,
    /// What the page that was made last had.
    shown: BTreeSet<u32>,
}

impl ChangedNamespaces {
    fn insert(&self, nsid: u32) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.now.insert(nsid);
        // It changed after it was shown.
        changes.shown.remove(&nsid);
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now.is_empty()
    }

    /// The log page: numbers, ascending; all ones alone where there are too many.
    pub(crate) fn page(&self) -> Vec<u8> {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.shown = changes.now.clone();
        let mut page = if changes.now.len() > CHANGED_NAMESPACES_MOST {
            ANY_NAMESPACE.to_le_bytes().to_vec()
        } else {
            changes.now.iter().flat_map(|nsid| nsid.to_le_bytes()).collect()
        };
        page.resize(CHANGED_NAMESPACES_MOST * 4, 0);
        page
    }

    /// Forgets what was shown, where `read` bytes of the page were enough to see it all.
    fn forget_read(&self, read: usize) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = changes.shown.len().min(CHANGED_NAMESPACES_MOST) * 4 <= read;
        if whole {
            let shown = std::mem::take(&mut changes.shown);
            changes.now.retain(|nsid| !shown.contains(nsid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(changed: &ChangedNamespaces) -> Vec<u32> {
        let page = changed.page();
        let numbers = page.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        numbers.take_while(|&nsid| nsid != 0).collect()
    }

    #[test]
    fn changes_are_listed_once_ascending_and_forgotten_when_read() {
        let changed = ChangedNamespaces::default();
        for nsid in [5, 2, 5] {
            changed.insert(nsid);
        }
        assert_eq!(shown(&changed), [2, 5]);
        changed.forget_read(4);
        assert_eq!(shown(&changed), [2, 5], "only the first was read");
        changed.insert(5);
        changed.forget_read(4096);
        assert_eq!(shown(&changed), [5], "changed after the page was made");
    }

    #[test]
    fn more_changes_than_fit_are_told_by_all_ones() {
        let changed = ChangedNamespaces::default();
        (1..=1024).for_each(|nsid| changed.insert(nsid));
        assert_eq!(shown(&changed).len(), 1024);
        changed.insert(1025);
        assert_eq!(shown(&changed), [u32::MAX]);
        changed.forget_read(4096);
        assert!(changed.is_empty());
    }
}
