//! The queue against a map of what is out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::testing::{Mock, MockOptions};

#[derive(Debug, Clone)]
enum Step {
    Push,
    /// The controller completes the n-th of those that are out.
    Complete(usize),
    /// It completes once more what it completed n commands ago.
    Again(usize),
    Reap(usize),
    /// The clock says something new.
    See,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        4 => any::<usize>().prop_map(Step::Complete),
        1 => (0_usize..8).prop_map(Step::Again),
        3 => (1_usize..20).prop_map(Step::Reap),
        1 => Just(Step::See),
    ]
}

/// The controller's end: where it puts the next completion.
struct Writer {
    at: usize,
    phase: u64,
    entries: usize,
}

impl Writer {
    fn write(&mut self, ring: &Ring, cid: u16, dw0: u32) {
        let place = ring.memory.place(self.at * CQE);
        let words = ring.memory.region().u64s_at(place, 2).unwrap();
        words[0].store(u64::from(dw0), Ordering::Relaxed);
        let queue = u64::from(ring.shape.queue) << 16;
        words[1].store(u64::from(cid) << 32 | queue | self.phase, Ordering::Release);
        self.at += 1;
        if self.at == self.entries {
            (self.at, self.phase) = (0, self.phase ^ PHASE);
        }
    }
}

proptest! {
    /// Against a map of what is out: every command that was taken ends once, in the order of the completions, with
    /// what was answered; identifiers of commands that are out differ; what is answered again ends nothing.
    #[test]
    fn commands_that_are_out_agree_with_a_map(
        slots in 1_u32..40,
        spare in 0_u32..80,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mock = Mock::new(MockOptions::default());
        let transport: Arc<dyn Transport> = mock;
        let limits = Limits { page_shift: 12, max_transfer: 1 << 16, sgl: false };
        let (submissions, completions) = (slots + 1, slots + 1 + spare);
        let shape = Shape { queue: 3, slots, submissions, completions, stride: 0, limits };
        let mut ring = Ring::new(&transport, None, shape, None).unwrap();
        let entries = to_usize(completions.into());
        let mut writer = Writer { at: 0, phase: PHASE, entries };
        // By identifier: the caller's number, and when it was first seen.
        let mut out: BTreeMap<u16, (u64, Option<u32>)> = BTreeMap::new();
        // What was completed and not yet taken; a number where it ends a command.
        let mut completed: VecDeque<Option<(u64, u32)>> = VecDeque::new();
        let mut old: VecDeque<u16> = VecDeque::new();
        let (mut token, mut tail, mut tick) = (0_u64, 0, 0_u32);
        let mut ending: BTreeSet<u16> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Push => {
                    token += 1;
                    let pushed = ring.push_entry(token, [2, 0, 0, 0, 0, 0, 0, 0]);
                    if out.len() == to_usize(slots.into()) {
                        prop_assert_eq!(pushed, Err(Refused::Full));
                        continue;
                    }
                    prop_assert_eq!(pushed, Ok(()));
                    let place = ring.memory.place(ring.submission_offset + tail * SQE);
                    let word = ring.memory.region().u64s_at(place, 1).unwrap()[0].load(Ordering::Relaxed);
                    let cid = low16(word >> 16);
                    prop_assert_eq!(word & 0xff, 2);
                    prop_assert!(cid != u16::MAX, "that one is reserved");
                    prop_assert!(out.insert(cid, (token, None)).is_none(), "{cid} is out already");
                    tail = (tail + 1) % to_usize(submissions.into());
                    prop_assert!(ring.ring().is_ok());
                }
                Step::Complete(which) => {
                    let open: Vec<u16> = out.keys().filter(|cid| !ending.contains(cid)).copied().collect();
                    if open.is_empty() || completed.len() + 1 >= entries {
                        continue;
                    }
                    let cid = open[which % open.len()];
                    let dw0 = u32::from(cid) ^ 0xabcd;
                    writer.write(&ring, cid, dw0);
                    ending.insert(cid);
                    completed.push_back(Some((out[&cid].0, dw0)));
                    old.push_front(cid);
                }
                Step::Again(back) => {
                    let cid = old.get(back).copied().filter(|cid| !out.contains_key(cid));
                    let Some(cid) = cid.filter(|_| completed.len() + 1 < entries) else { continue };
                    writer.write(&ring, cid, 0);
                    completed.push_back(None);
                }
                Step::Reap(max) => {
                    let taken: Vec<_> = completed.drain(..max.min(completed.len())).collect();
                    let wanted: Vec<(u64, u32)> = taken.iter().copied().flatten().collect();
                    let mut ended = Vec::new();
                    let count = ring.reap(max, |one| ended.push((one.token, one.dw0)));
                    prop_assert_eq!(&ended, &wanted);
                    prop_assert_eq!(count, wanted.len());
                    prop_assert_eq!(ring.take_fault().is_some(), taken.contains(&None));
                    out.retain(|_, (token, _)| wanted.iter().all(|(other, _)| other != token));
                    ending.retain(|cid| out.contains_key(cid));
                    prop_assert!(ring.acknowledge(true).is_ok());
                }
                Step::See => {
                    tick += 1;
                    ring.see(tick);
                    out.values_mut().for_each(|(_, seen)| *seen = seen.or(Some(tick)));
                }
            }
            prop_assert_eq!(ring.out(), out.len());
            prop_assert_eq!(ring.is_ready(), !completed.is_empty());
            let late: BTreeSet<u16> = ring.older_than(tick).collect();
            let seen = |(cid, (_, seen)): (&u16, &(u64, Option<u32>))| {
                seen.is_some_and(|seen| seen < tick).then_some(*cid)
            };
            prop_assert_eq!(late, out.iter().filter_map(seen).collect::<BTreeSet<u16>>());
        }
        let mut lost = Vec::new();
        ring.take_back(&mut lost);
        lost.sort_unstable();
        let mut all: Vec<u64> = out.values().map(|(token, _)| *token).collect();
        all.sort_unstable();
        prop_assert_eq!((lost, ring.out()), (all, 0));
    }
}
