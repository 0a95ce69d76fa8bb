//! Asynchronous events of one controller (Base, section 5.1.2).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_nvme_spec::{Event, EventType, LogPage, Status};

/// Asynchronous Event Requests that a controller takes at a time.
pub(super) const EVENT_REQUESTS_MOST: u8 = 16;

/// Events that wait for a request; each kind of event waits once, and there are fewer kinds.
const WAITING_MOST: usize = 32;

/// Told when a request can be answered.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The events of a controller: requests of the host on one side, what happened on the other.
///
/// Whoever answers admin commands looks at [`is_ready`](Self::is_ready), which is one load, and then
/// [takes](Self::take) answers.
#[derive(Default)]
pub struct Events {
    state: Mutex<State>,
    ready: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Commands that wait for an event, oldest first.
    requests: VecDeque<u16>,
    /// Events that wait for a command, oldest first, each once.
    waiting: VecDeque<Event>,
    /// One bit for each event type that was told and whose log page was not read since.
    masked: u8,
    waker: Option<Waker>,
}

impl State {
    fn next(&self) -> Option<usize> {
        let free = |event: &Event| self.masked & bit(event.kind) == 0;
        self.waiting.iter().position(free).filter(|_| !self.requests.is_empty())
    }
}

fn bit(kind: EventType) -> u8 {
    1 << (kind.0 & 7)
}

impl Events {
    /// Has `waker` called (from any thread, never under a lock of this crate) whenever a request can be answered.
    pub fn wake_by(&self, waker: Option<Waker>) {
        self.state().waker = waker;
    }

    /// Takes an Asynchronous Event Request with this command identifier.
    ///
    /// # Errors
    /// Event Limit Exceeded where as many wait as may.
    pub fn request(&self, cid: u16) -> Result<(), Status> {
        let mut state = self.state();
        if state.requests.len() >= usize::from(EVENT_REQUESTS_MOST) {
            return Err(Status::EVENT_LIMIT_EXCEEDED.final_());
        }
        state.requests.push_back(cid);
        self.publish(state);
        Ok(())
    }

    /// Tells of an event. One that waits already waits once.
    pub fn raise(&self, event: Event) {
        let mut state = self.state();
        if !state.waiting.contains(&event) && state.waiting.len() < WAITING_MOST {
            state.waiting.push_back(event);
        }
        self.publish(state);
    }

    /// Whether [`take`](Self::take) has something to answer. May answer late, never wrongly for good: the waker is
    /// called when it changes.
    #[must_use]
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// A request and the event that answers it. Further events of its type wait until its log page was read.
    pub fn take(&self) -> Option<(u16, Event)> {
        let mut state = self.state();
        let answer = state.next().and_then(|place| {
            let event = state.waiting.remove(place)?;
            state.masked |= bit(event.kind);
            Some((state.requests.pop_front()?, event))
        });
        self.ready.store(state.next().is_some(), Ordering::Release);
        answer
    }

    /// Takes back a request that the host aborts; whether it was there.
    pub fn abort(&self, cid: u16) -> bool {
        let mut state = self.state();
        let place = state.requests.iter().position(|&waiting| waiting == cid);
        let found = place.is_some_and(|place| state.requests.remove(place).is_some());
        self.ready.store(state.next().is_some(), Ordering::Release);
        found
    }

    /// How many requests wait.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state().requests.len()
    }

    /// The host read a log page and wants to hear of such events again. `still` says, under the lock that events are
    /// raised under, whether the page has something that was not read; where not, an event of this page that waits has
    /// nothing more to tell.
    pub(crate) fn acknowledge(&self, page: LogPage, still: impl FnOnce() -> bool) {
        let mut state = self.state();
        state.masked &= match page {
            LogPage::ERROR => !bit(EventType::ERROR),
            LogPage::SMART => !bit(EventType::SMART),
            LogPage::CHANGED_NAMESPACES => !bit(EventType::NOTICE),
            _ => return,
        };
        if !still() {
            state.waiting.retain(|event| event.page != page);
        }
        self.publish(state);
    }

    /// Forgets everything, as a reset of the controller does: requests are not answered.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        state.requests.clear();
        state.waiting.clear();
        state.masked = 0;
        self.ready.store(false, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: MutexGuard<'_, State>) {
        let ready = state.next().is_some();
        self.ready.store(ready, Ordering::Release);
        let waker = state.waker.clone().filter(|_| ready);
        drop(state);
        if let Some(wake) = waker {
            wake();
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Events")
            .field("requests", &state.requests)
            .field("waiting", &state.waiting)
            .field("masked", &state.masked)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn event_waits_for_a_request_and_a_request_for_an_event() {
        let events = Events::default();
        events.raise(Event::TEMPERATURE);
        assert!(!events.is_ready());
        events.request(7).unwrap();
        assert!(events.is_ready());
        assert_eq!(events.take(), Some((7, Event::TEMPERATURE)));
        assert!(!events.is_ready());
        events.request(8).unwrap();
        events.raise(Event::NAMESPACE_CHANGED);
        assert_eq!(events.take(), Some((8, Event::NAMESPACE_CHANGED)));
        assert_eq!(events.take(), None);
    }

    #[test]
    fn type_that_was_told_waits_until_its_page_was_read() {
        let events = Events::default();
        for cid in 0..4 {
            events.request(cid).unwrap();
        }
        events.raise(Event::NAMESPACE_CHANGED);
        assert_eq!(events.take(), Some((0, Event::NAMESPACE_CHANGED)));
        events.raise(Event::NAMESPACE_CHANGED);
        assert_eq!(events.take(), None);
        // Another type is not held back.
        events.raise(Event::INVALID_DOORBELL);
        assert_eq!(events.take(), Some((1, Event::INVALID_DOORBELL)));
        events.acknowledge(LogPage::SMART, || true);
        assert_eq!(events.take(), None);
        events.acknowledge(LogPage::CHANGED_NAMESPACES, || true);
        assert_eq!(events.take(), Some((2, Event::NAMESPACE_CHANGED)));
    }

    #[test]
    fn event_whose_page_was_read_to_its_end_is_not_told_again() {
        let events = Events::default();
        events.request(1).unwrap();
        events.request(2).unwrap();
        events.raise(Event::NAMESPACE_CHANGED);
        events.take().unwrap();
        events.raise(Event::NAMESPACE_CHANGED);
        events.acknowledge(LogPage::CHANGED_NAMESPACES, || false);
        assert_eq!(events.take(), None);
    }

    #[test]
    fn requests_beyond_the_limit_are_refused() {
        let events = Events::default();
        for cid in 0..u16::from(EVENT_REQUESTS_MOST) {
            events.request(cid).unwrap();
        }
        assert_eq!(events.request(99), Err(Status::EVENT_LIMIT_EXCEEDED.final_()));
        assert!(events.abort(3));
        assert!(!events.abort(3));
        assert_eq!(events.request(99), Ok(()));
    }

    #[test]
    fn events_without_number_take_bounded_room() {
        let events = Events::default();
        for _ in 0..1000 {
            for information in 0..=255 {
                events.raise(Event { information, ..Event::TEMPERATURE });
            }
        }
        assert_eq!(events.state().waiting.len(), WAITING_MOST);
    }

    #[test]
    fn waker_is_called_when_a_request_can_be_answered_and_reset_forgets() {
        let events = Events::default();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        events.wake_by(Some(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })));
        events.raise(Event::TEMPERATURE);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        events.request(1).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        events.reset();
        assert!(!events.is_ready());
        assert_eq!((events.take(), events.requests()), (None, 0));
    }
}
