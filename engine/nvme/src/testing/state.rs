//! The registers and queues of the controller for tests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use engine_dma::{AddressSpace, to_u64, to_usize};
use engine_nvme_spec::{AdminOpcode, NvmOpcode, register};

use super::data::Reach;
use super::{Answer, Asked, MockOptions, Script};
use crate::ring::{low16, low32};

/// Commands that are carried out before a doorbell's writer gets its thread back.
const MOST_AT_ONCE: usize = 1 << 16;

pub(super) struct State {
    pub(super) options: MockOptions,
    memory: Arc<AddressSpace>,
    reach: Reach,
    pub(super) script: Option<Script>,
    pub(super) lies: Vec<(u8, usize, Vec<u8>)>,
    pub(super) frozen: bool,
    pub(super) thaws: bool,
    pub(super) fatal: bool,
    pub(super) always_fatal: bool,
    pub(super) vanished: bool,
    pub(super) cut_off: bool,
    /// What CSTS says, where that is not the truth.
    said: Option<u32>,
    pub(super) counts: BTreeMap<(bool, u8), u64>,
    pub(super) starts: u32,
    pub(super) stray: u64,
    pub(super) doorbells: u64,
    configuration: u32,
    ready: bool,
    admin: [u64; 3],
    submission: BTreeMap<u16, Submission>,
    completion: BTreeMap<u16, Completion>,
    shadows: Option<(u64, u64)>,
    held: VecDeque<Asked>,
    events: VecDeque<Asked>,
}

#[derive(Debug)]
struct Submission {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
}

#[derive(Debug)]
struct Completion {
    base: u64,
    entries: u32,
    tail: u32,
    phase: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("configuration", &self.configuration)
            .field("submission", &self.submission)
            .field("completion", &self.completion)
            .finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn new(options: MockOptions, memory: Arc<AddressSpace>) -> Self {
        Self {
            options,
            memory,
            reach: Reach::default(),
            script: None,
            lies: Vec::new(),
            frozen: false,
            thaws: false,
            fatal: false,
            always_fatal: false,
            vanished: false,
            cut_off: false,
            said: None,
            counts: BTreeMap::new(),
            starts: 0,
            stray: 0,
            doorbells: 0,
            configuration: 0,
            ready: false,
            admin: [0; 3],
            submission: BTreeMap::new(),
            completion: BTreeMap::new(),
            shadows: None,
            held: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn read32(&mut self, offset: u32) -> u32 {
        if self.vanished {
            return u32::MAX;
        }
        match offset {
            register::VS => 0x0002_0100,
            register::CC => self.configuration,
            register::CSTS if self.said.is_some() => self.said.unwrap_or_default(),
            register::CSTS => {
                let shut_down = if self.configuration >> 14 & 3 == 0 { 0 } else { 0b10 << 2 };
                u32::from(self.ready) | u32::from(self.fatal) << 1 | shut_down
            }
            register::CAP => low32(self.options.capabilities),
            _ => 0,
        }
    }

    pub(super) fn read64(&mut self, offset: u32) -> u64 {
        match offset {
            _ if self.vanished => u64::MAX,
            register::CAP => self.options.capabilities,
            _ => u64::from(self.read32(offset)),
        }
    }

    pub(super) fn write32(&mut self, offset: u32, value: u32) {
        if self.vanished {
            return;
        }
        match offset {
            register::CC => self.configure(value),
            register::AQA => self.admin[0] = value.into(),
            doorbell @ 0x1000.. => self.ring(doorbell, value),
            _ => {}
        }
    }

    pub(super) fn write64(&mut self, offset: u32, value: u64) {
        match offset {
            _ if self.vanished => {}
            register::ASQ => self.admin[1] = value,
            register::ACQ => self.admin[2] = value,
            _ => {}
        }
    }

    fn configure(&mut self, value: u32) {
        let before = std::mem::replace(&mut self.configuration, value);
        if self.frozen {
            return;
        }
        if value & 1 != 0 && before & 1 == 0 {
            let [sizes, submission, completion] = self.admin;
            let entries = (low32(sizes) & 0xfff) + 1;
            self.submission.insert(0, Submission { base: submission, entries, head: 0, tail: 0 });
            let entries = (low32(sizes) >> 16 & 0xfff) + 1;
            self.completion.insert(0, Completion { base: completion, entries, tail: 0, phase: true });
            (self.ready, self.starts) = (true, self.starts + 1);
        }
        if value & 1 == 0 {
            self.stop();
        }
    }

    /// Forgets all queues.
    fn stop(&mut self) {
        self.ready = false;
        self.fatal = self.always_fatal;
        self.said = None;
        self.submission.clear();
        self.completion.clear();
        self.held.clear();
        self.events.clear();
        self.shadows = None;
        self.reach.release();
    }

    /// The function's reset; whether there is one.
    pub(super) fn reset(&mut self) -> bool {
        if !self.thaws {
            return false;
        }
        self.frozen = false;
        self.configuration = 0;
        self.stop();
        true
    }

    pub(super) fn is_shut_down(&self) -> bool {
        !self.ready && self.configuration >> 14 & 3 != 0
    }

    fn ring(&mut self, offset: u32, value: u32) {
        self.doorbells += 1;
        let stride = 4_u32 << (self.options.capabilities >> 32 & 15);
        let place = (offset - 0x1000) / stride;
        if !place.is_multiple_of(2) {
            return;
        }
        let queue = low16(u64::from(place / 2));
        if let Some(submission) = self.submission.get_mut(&queue) {
            submission.tail = value % submission.entries;
        }
        if !self.options.assisted {
            self.work();
        }
    }

    /// Carries out what is in the queues; whether there was anything.
    pub(super) fn work(&mut self) -> bool {
        let queues: Vec<u16> = self.submission.keys().copied().collect();
        self.reach.refresh(&Arc::clone(&self.memory));
        let mut worked = false;
        for queue in queues {
            for _ in 0..MOST_AT_ONCE {
                self.look_at_shadow(queue);
                let Some(asked) = self.fetch(queue) else { break };
                worked = true;
                self.carry_out(asked);
            }
        }
        self.reach.release();
        worked
    }

    /// Takes the tail from where the driver leaves it, and asks to be told when it changes.
    fn look_at_shadow(&mut self, queue: u16) {
        let Some((values, events)) = self.shadows.filter(|_| queue != 0) else { return };
        let stride = 4_u64 << (self.options.capabilities >> 32 & 15);
        let offset = 2 * u64::from(queue) * stride;
        let mut bytes = [0; 4];
        if self.reach.read(values + offset, &mut bytes).is_none() {
            self.stray += 1;
            return;
        }
        if let Some(submission) = self.submission.get_mut(&queue) {
            submission.tail = u32::from_le_bytes(bytes) % submission.entries;
            let _ = self.reach.write(events + offset, &bytes);
        }
    }

    fn fetch(&mut self, queue: u16) -> Option<Asked> {
        if !self.ready || self.fatal || self.vanished {
            return None;
        }
        let submission = self.submission.get_mut(&queue)?;
        if submission.head == submission.tail {
            return None;
        }
        let mut bytes = [0; 64];
        let place = submission.base + 64 * u64::from(submission.head);
        submission.head = (submission.head + 1) % submission.entries;
        if self.reach.read(place, &mut bytes).is_none() {
            self.stray += 1;
            return None;
        }
        let mut words = [0; 8];
        let (chunks, _) = bytes.as_chunks::<8>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        Some(Asked { queue, words })
    }

    fn carry_out(&mut self, asked: Asked) {
        *self.counts.entry((asked.is_admin(), asked.opcode())).or_default() += 1;
        let answer = self.script.as_mut().map_or(Answer::Right, |script| script(&asked));
        let head = self.submission.get(&asked.queue).map_or(0, |queue| low16(queue.head.into()));
        let [first, ..] = asked.words;
        let (cid, queue) = (low16(first >> 16), asked.queue);
        match answer {
            Answer::Right => {
                if let Some((status, dw0)) = self.right(asked) {
                    self.complete(queue, queue, head, cid, status, dw0);
                }
            }
            Answer::With(dw0) => {
                let _ = self.right(asked);
                self.complete(queue, queue, head, cid, 0, dw0);
            }
            Answer::Status(status, dw0) => self.complete(queue, queue, head, cid, status.0, dw0),
            Answer::Never => {}
            Answer::Later => self.held.push_back(asked),
            Answer::Twice => {
                if let Some((status, dw0)) = self.right(asked) {
                    self.complete(queue, queue, head, cid, status, dw0);
                    self.complete(queue, queue, head, cid, status, dw0);
                }
            }
            Answer::WrongIdentifier(other) => self.complete(queue, queue, head, other, 0, 0),
            Answer::WrongQueue(other) => self.complete(queue, other, head, cid, 0, 0),
            Answer::WrongHead(other) => self.complete(queue, queue, other, cid, 0, 0),
            Answer::WrongPhase => {
                if let Some(completion) = self.completion.get_mut(&queue) {
                    completion.phase ^= true;
                }
                self.complete(queue, queue, head, cid, 0, 0);
                if let Some(completion) = self.completion.get_mut(&queue) {
                    // The entry stays where the right one would have been.
                    completion.phase ^= true;
                    completion.tail = completion.tail.checked_sub(1).unwrap_or(completion.entries - 1);
                }
            }
            Answer::WrongBytes => {
                let _ = self.right(asked);
                self.spoil(&asked);
                self.complete(queue, queue, head, cid, 0, 0);
            }
            Answer::Entry(entry) => self.post(queue, entry),
            Answer::Tell(event) => {
                if let Some((status, dw0)) = self.right(asked) {
                    self.complete(queue, queue, head, cid, status, dw0);
                }
                self.answer_event(event);
            }
            Answer::Csts(value) => self.said = Some(value),
            Answer::Freeze => self.frozen = true,
            Answer::CutOff => self.cut_off = true,
            Answer::Fail => self.fatal = true,
            Answer::Vanish => self.vanished = true,
        }
    }

    fn complete(&mut self, on: u16, queue: u16, head: u16, cid: u16, status: u16, dw0: u32) {
        let Some(completion) = self.completion.get(&on) else { return };
        let phase = u64::from(completion.phase);
        let second = u64::from(head) | u64::from(queue) << 16 | u64::from(cid) << 32;
        self.post(on, [u64::from(dw0), second | phase << 48 | u64::from(status) << 49]);
    }

    /// Puts an entry into a completion queue.
    fn post(&mut self, on: u16, [first, second]: [u64; 2]) {
        let Some(completion) = self.completion.get_mut(&on) else { return };
        let place = completion.base + 16 * u64::from(completion.tail);
        completion.tail += 1;
        if completion.tail == completion.entries {
            completion.tail = 0;
            completion.phase ^= true;
        }
        // The half with the phase last.
        let first = self.reach.write(place, &first.to_le_bytes());
        if first.and_then(|()| self.reach.write(place + 8, &second.to_le_bytes())).is_none() {
            self.stray += 1;
        }
    }

    /// Does what a command asks for; its status and dword 0, none where it is not answered now.
    fn right(&mut self, asked: Asked) -> Option<(u16, u32)> {
        if asked.is_admin() { self.admin_command(asked) } else { Some((self.io_command(&asked), 0)) }
    }

    fn admin_command(&mut self, asked: Asked) -> Option<(u16, u32)> {
        let [first, _, _, data, second, ten, ..] = asked.words;
        let (ten, eleven) = (low32(ten), low32(ten >> 32));
        let queue = low16(ten.into());
        let entries = (ten >> 16) + 1;
        match AdminOpcode(asked.opcode()) {
            AdminOpcode::IDENTIFY => {
                let [cns, ..] = ten.to_le_bytes();
                let page = self.identify(cns, low32(first >> 32));
                self.give(data, &page);
            }
            AdminOpcode::GET_LOG_PAGE => self.give(data, &[0; 512]),
            AdminOpcode::SET_FEATURES if ten & 0xff == 7 => {
                let granted = u32::from(self.options.queues.saturating_sub(1));
                return Some((if self.options.queues == 0 { 2 } else { 0 }, granted << 16 | granted));
            }
            AdminOpcode::CREATE_COMPLETION_QUEUE => {
                self.completion.insert(queue, Completion { base: data, entries, tail: 0, phase: true });
            }
            AdminOpcode::CREATE_SUBMISSION_QUEUE => {
                if !self.completion.contains_key(&low16(u64::from(eleven >> 16))) {
                    return Some((0x100, 0));
                }
                self.submission.insert(queue, Submission { base: data, entries, head: 0, tail: 0 });
            }
            AdminOpcode::DELETE_SUBMISSION_QUEUE => {
                self.held.retain(|held| held.queue != queue);
                return Some((if self.submission.remove(&queue).is_some() { 0 } else { 0x101 }, 0));
            }
            AdminOpcode::DELETE_COMPLETION_QUEUE => {
                return Some((if self.completion.remove(&queue).is_some() { 0 } else { 0x101 }, 0));
            }
            AdminOpcode::ABORT => {
                let cid = low16(u64::from(ten >> 16));
                let named = |held: &Asked| {
                    let [first, ..] = held.words;
                    held.queue == queue && low16(first >> 16) == cid
                };
                let Some(place) = self.held.iter().position(named) else { return Some((0, 1)) };
                self.held.remove(place);
                self.complete(queue, queue, 0, cid, 0x07, 0);
            }
            AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST => {
                self.events.push_back(asked);
                return None;
            }
            AdminOpcode::DOORBELL_BUFFER_CONFIG if self.options.shadow_doorbells => {
                self.shadows = Some((data, second));
            }
            AdminOpcode::SET_FEATURES | AdminOpcode::GET_FEATURES => {}
            _ => return Some((1, 0)),
        }
        Some((0, 0))
    }

    fn identify(&self, cns: u8, namespace: u32) -> Vec<u8> {
        let mut page = vec![0; 4096];
        let mut set = |at: usize, bytes: &[u8]| {
            if let Some(place) = page.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        match cns {
            0 if namespace == 1 => {
                let blocks = to_u64(self.options.disk.len()) >> self.options.block_shift;
                set(0, &blocks.to_le_bytes());
                set(8, &blocks.to_le_bytes());
                set(16, &blocks.to_le_bytes());
                set(130, &[self.options.block_shift]);
            }
            1 => {
                set(4, b"MOCK-1              ");
                set(24, b"Mock controller                         ");
                set(64, b"1.0     ");
                set(77, &[self.options.max_transfer_pages]);
                set(256, &(u16::from(self.options.shadow_doorbells) << 8).to_le_bytes());
                set(258, &[3, 3]);
                set(512, &[0x66, 0x44]);
                set(516, &1_u32.to_le_bytes());
                set(536, &u32::from(self.options.sgl).to_le_bytes());
            }
            2 if namespace == 0 => set(0, &1_u32.to_le_bytes()),
            _ => {}
        }
        for (of, at, bytes) in &self.lies {
            if *of == cns
                && let Some(place) = page.get_mut(*at..at + bytes.len())
            {
                place.copy_from_slice(bytes);
            }
        }
        page
    }

    fn give(&mut self, iova: u64, bytes: &[u8]) {
        if self.reach.write(iova, bytes).is_none() {
            self.stray += 1;
        }
    }

    /// Reads and writes as asked; other commands do nothing.
    fn io_command(&mut self, asked: &Asked) -> u16 {
        let writes = match NvmOpcode(asked.opcode()) {
            NvmOpcode::READ | NvmOpcode::COMPARE => false,
            NvmOpcode::WRITE => true,
            _ => return 0,
        };
        let Some((start, runs)) = self.data(asked) else { return 0x80 };
        let mut at = start;
        for (iova, length) in runs {
            let Some(bytes) = self.options.disk.get_mut(at..at + length) else { return 0x80 };
            let moved = if writes { self.reach.read(iova, bytes) } else { self.reach.write(iova, bytes) };
            if moved.is_none() {
                self.stray += 1;
                return 4;
            }
            at += length;
        }
        0
    }

    /// Where on the volume and in memory a command's data is.
    fn data(&mut self, asked: &Asked) -> Option<(usize, Vec<(u64, usize)>)> {
        let [.., lba, twelve, _] = asked.words;
        let shift = self.options.block_shift;
        let length = to_usize((twelve & 0xffff) + 1) << shift;
        let start = to_usize(lba.checked_mul(1 << shift)?);
        if start.checked_add(length)? > self.options.disk.len() {
            return None;
        }
        let page = 4096 << (self.configuration >> 7 & 15);
        let runs = self.reach.runs(asked.words, length, page);
        if runs.is_none() {
            self.stray += 1;
        }
        Some((start, runs?))
    }

    fn spoil(&mut self, asked: &Asked) {
        if let Some((_, runs)) = self.data(asked) {
            for (iova, length) in runs {
                let _ = self.reach.write(iova, &vec![0xa5; length]);
            }
        }
    }

    pub(super) fn release(&mut self) {
        self.reach.refresh(&Arc::clone(&self.memory));
        while let Some(asked) = self.held.pop_front() {
            let [first, ..] = asked.words;
            if let Some((status, dw0)) = self.right(asked) {
                self.complete(asked.queue, asked.queue, 0, low16(first >> 16), status, dw0);
            }
        }
        self.reach.release();
    }

    pub(super) fn tell(&mut self, event: u32) -> bool {
        self.reach.refresh(&Arc::clone(&self.memory));
        let told = self.answer_event(event);
        self.reach.release();
        told
    }

    /// Answers the oldest request for an event; whether there was one.
    fn answer_event(&mut self, event: u32) -> bool {
        let Some(asked) = self.events.pop_front() else { return false };
        let [first, ..] = asked.words;
        self.complete(0, 0, 0, low16(first >> 16), 0, event);
        true
    }
}
