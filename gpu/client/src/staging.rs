//! Which parts of a reader's memory commands in flight have: a ring, since commands end in about the order they began.

use std::collections::VecDeque;

/// A part that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its number, for giving it back.
    pub(crate) number: u64,
    /// First byte within the memory.
    pub(crate) start: usize,
}

#[derive(Debug)]
struct Span {
    start: usize,
    end: usize,
    done: bool,
}

/// The ring: bytes are handed out behind each other, and are free again once all before them are.
#[derive(Debug)]
pub(crate) struct Staging {
    length: usize,
    head: usize,
    spans: VecDeque<Span>,
    /// Number of the first of the spans.
    first: u64,
}

impl Staging {
    pub(crate) fn new(length: usize) -> Self {
        Self { length, head: 0, spans: VecDeque::new(), first: 0 }
    }

    /// A part of `length` bytes, where there is room.
    pub(crate) fn take(&mut self, length: usize) -> Option<Part> {
        let start = match self.spans.front() {
            None => (length <= self.length).then_some(0),
            // What is in use lies between its start and the head, so the rest is behind the head and before the start.
            Some(oldest) if self.head > oldest.start => {
                if length <= self.length - self.head {
                    Some(self.head)
                } else {
                    (length <= oldest.start).then_some(0)
                }
            }
            Some(oldest) => (length <= oldest.start - self.head).then_some(self.head),
        }?;
        let number = self.first + u64::try_from(self.spans.len()).ok()?;
        self.head = start + length;
        self.spans.push_back(Span { start, end: self.head, done: false });
        Some(Part { number, start })
    }

    /// Gives a part back.
    pub(crate) fn give_back(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(span) = index.and_then(|index| self.spans.get_mut(index)) {
            span.done = true;
        }
        while self.spans.front().is_some_and(|span| span.done) {
            self.spans.pop_front();
            self.first += 1;
        }
        if let Some(last) = self.spans.back() {
            self.head = last.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_use_never_overlap_and_all_come_back() {
        let mut ring = Staging::new(1000);
        let mut held: Vec<(Part, usize)> = Vec::new();
        let mut random = 1_u64;
        let mut draw = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((random >> 33) % most).unwrap()
        };
        for _ in 0..20_000 {
            let length = 1 + draw(300);
            if let Some(part) = ring.take(length) {
                assert!(part.start + length <= 1000);
                for (other, long) in &held {
                    let apart = part.start + length <= other.start || other.start + long <= part.start;
                    assert!(apart, "{part:?} of {length} bytes lies upon {other:?} of {long}");
                }
                held.push((part, length));
            } else {
                assert!(!held.is_empty(), "an empty ring has no room for {length} bytes");
                let (part, _) = held.swap_remove(draw(held.len().try_into().unwrap()));
                ring.give_back(part.number);
            }
        }
        for (part, _) in held.drain(..) {
            ring.give_back(part.number);
        }
        assert_eq!(ring.take(1000).map(|part| part.start), Some(0));
        assert_eq!(ring.take(1), None);
    }
}
