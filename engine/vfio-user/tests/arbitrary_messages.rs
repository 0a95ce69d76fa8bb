//! Messages that are anything at all: the server answers or drops, its device is never asked for what it does not
//! have, and the next client is served.

#[path = "peers/raw_client.rs"]
mod raw_client;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_dma::{Access, Region};
use engine_transport::Interrupt;
use engine_vfio_user::pci::{self, IRQS, REGIONS};
use engine_vfio_user::wire::{Command, Header, flag};
use engine_vfio_user::{
    ClientMemory, DeviceModel, Errno, MappableArea, Patience, RegionShape, Server, SocketError,
};
use proptest::prelude::*;
use raw_client::Raw;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use zerocopy::IntoBytes;

/// A device that notes what it is asked for that it should not be.
#[derive(Debug)]
struct Strict {
    doorbells: Arc<Region>,
    mapped: Mutex<BTreeMap<u64, u64>>,
    wrongs: Mutex<Vec<String>>,
}

const SIZES: [u64; 9] = [0x4000, 0, 0x100, 0, 0, 0, 0, 0x1000, 0];

impl Strict {
    fn new() -> Self {
        let doorbells = Region::shared(c"doorbells", 0x1000).unwrap();
        Self { doorbells, mapped: Mutex::default(), wrongs: Mutex::default() }
    }

    fn check(&self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.wrongs.lock().unwrap().push(what());
        }
    }

    fn check_access(&self, region: u32, offset: u64, length: usize) {
        let size = SIZES.get(usize::try_from(region).unwrap()).copied().unwrap_or(0);
        let end = offset.checked_add(length.try_into().unwrap());
        let right = length > 0 && end.is_some_and(|end| end <= size);
        self.check(right, || format!("{length} bytes at {offset:#x} of region {region}"));
    }
}

impl DeviceModel for Strict {
    fn region(&self, index: u32) -> RegionShape {
        self.check(index < REGIONS, || format!("region {index}"));
        let size = SIZES.get(usize::try_from(index).unwrap()).copied().unwrap_or(0);
        let area = MappableArea { offset: 0x1000, memory: Arc::clone(&self.doorbells) };
        let areas = if index == 0 { vec![area] } else { Vec::new() };
        // Region 2 can only be read.
        RegionShape { size, readable: size > 0, writable: size > 0 && index != 2, areas }
    }

    fn read(&self, region: u32, offset: u64, target: &mut [u8]) -> Result<(), Errno> {
        self.check_access(region, offset, target.len());
        target.fill(region.to_le_bytes()[0]);
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, source: &[u8]) -> Result<(), Errno> {
        self.check_access(region, offset, source.len());
        self.check(region != 2, || "a write to what can only be read".into());
        Ok(())
    }

    fn interrupts(&self, index: u32) -> u32 {
        self.check(index < IRQS, || format!("interrupts of kind {index}"));
        if index == pci::MSIX_IRQ { 3 } else { 0 }
    }

    fn connect(&self, index: u32, vector: u32, _: Option<Interrupt>) -> Result<(), Errno> {
        self.check(index == pci::MSIX_IRQ && vector < 3, || format!("vector {vector} of kind {index}"));
        Ok(())
    }

    fn map(&self, memory: &ClientMemory) -> Result<(), Errno> {
        let ClientMemory { iova, length, ref region, offset, access } = *memory;
        let mut mapped = self.mapped.lock().unwrap();
        let end = iova.checked_add(length);
        let overlaps =
            mapped.iter().any(|(&other, &size)| iova < other + size && end.is_some_and(|end| other < end));
        let within = region.place(offset, length.try_into().unwrap(), access).is_ok();
        self.check(length > 0 && end.is_some() && !overlaps && within, || format!("{memory:?}"));
        let mut byte = [0];
        self.check(region.read(offset, &mut byte).is_ok(), || "memory that cannot be read".into());
        self.check(access == Access::Read || region.write(offset, &byte).is_ok(), || "written".into());
        mapped.insert(iova, length);
        Ok(())
    }

    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno> {
        let known = self.mapped.lock().unwrap().remove(&iova);
        self.check(known == Some(length), || {
            format!("{length} bytes at {iova:#x} unmapped, mapped {known:?}")
        });
        Ok(())
    }

    fn reset(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A message: well-formed but for its contents, or any bytes.
#[derive(Debug, Clone)]
enum Sent {
    Command { command: u16, words: Vec<u32>, tail: Vec<u8>, flags: u32, fds: Vec<bool> },
    Bytes(Vec<u8>),
}

/// Numbers that mean something somewhere in the protocol, and any others.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => prop::sample::select(vec![0_u32, 1, 2, 3, 4, 7, 8, 9, 16, 20, 24, 32, 33, 34, 36, 64, 0x400, 0x1000]),
        2 => prop::sample::select(vec![0x2000, 0x4000, 0xfff, 0x10_0000, 0x8000_0000, u32::MAX, 0xffff_f000]),
        1 => any::<u32>(),
    ]
}

/// Bytes, counts and addresses near each other, so that they meet.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0_u64..6).prop_map(|page| page * 0x1000),
        1 => any::<u64>(),
        1 => prop::sample::select(vec![u64::MAX, u64::MAX - 0xfff, 1 << 63, 0x1008, 0x800]),
    ]
}

fn halves(value: u64) -> [u32; 2] {
    let bytes = value.to_ne_bytes();
    [&bytes[..4], &bytes[4..]].map(|half| u32::from_ne_bytes(half.try_into().unwrap()))
}

/// Commands whose fields are where they belong.
fn sensible() -> impl Strategy<Value = (u16, Vec<u32>, Vec<u8>, Vec<bool>)> {
    let fds = prop_oneof![7 => Just(vec![true]), 2 => Just(vec![]), 1 => Just(vec![false])];
    let map = (prop_oneof![9 => Just(3_u32), 1 => 0_u32..5], place(), place(), place(), fds).prop_map(
        |(flags, offset, address, size, fds)| {
            let words = [&[32, flags][..], &halves(offset), &halves(address), &halves(size)].concat();
            (2, words, Vec::new(), fds)
        },
    );
    let unmap = (prop_oneof![9 => Just(0_u32), 1 => 0_u32..4], place(), place()).prop_map(
        |(flags, address, size)| {
            (3, [&[24, flags][..], &halves(address), &halves(size)].concat(), Vec::new(), Vec::new())
        },
    );
    let near = prop_oneof![
        4 => prop::sample::select(vec![0_u64, 0xf8, 0xfc, 0xff, 0x100, 0xffc, 0x1000, 0x3ff8, 0x3fff, 0x4000]),
        1 => any::<u64>(),
    ];
    let count = prop_oneof![8 => 0_u32..20, 1 => any::<u32>()];
    let access = (9_u16..11, near, 0_u32..10, count, any::<bool>()).prop_map(
        |(command, offset, region, count, lies)| {
            let data = if command == 10 { count.min(64) + u32::from(lies) } else { 0 };
            let words = [&halves(offset)[..], &[region, count]].concat();
            (command, words, vec![7; data.try_into().unwrap()], Vec::new())
        },
    );
    let irqs =
        (prop_oneof![4 => Just(0x24_u32), 2 => Just(0x21), 1 => 0_u32..64], 0_u32..6, 0_u32..5, 0_u32..4)
            .prop_flat_map(|(flags, index, start, count)| {
                let fds =
                    prop_oneof![Just(count.try_into().unwrap()), 0_usize..4].prop_map(|fds| vec![false; fds]);
                // Mostly the kind that there is.
                let index = if index < 5 { 2 } else { start };
                fds.prop_map(move |fds| (8, vec![20, flags, index, start, count], Vec::new(), fds))
            });
    prop_oneof![4 => map, 3 => unmap, 4 => access, 3 => irqs]
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = prop_oneof![20 => Just(0_u32), 2 => Just(flag::NO_REPLY), 1 => any::<u32>()];
    let command = prop_oneof![9 => 1_u16..19, 1 => any::<u16>()];
    let parts = (
        command,
        prop::collection::vec(word(), 0..12),
        prop::collection::vec(any::<u8>(), 0..9),
        flags,
        prop::collection::vec(any::<bool>(), 0..3),
    );
    prop_oneof![
        60 => sensible().prop_map(|(command, words, tail, fds)| Sent::Command { command, words, tail, flags: 0, fds }),
        20 => parts.prop_map(|(command, words, tail, flags, fds)| Sent::Command { command, words, tail, flags, fds }),
        1 => prop::collection::vec(any::<u8>(), 1..80).prop_map(Sent::Bytes),
    ]
}

/// Sends all of it, and reads what comes back until the server has answered or dropped.
fn converse(raw: &mut Raw, messages: &[Sent], memory: &OwnedFd, event: &OwnedFd) {
    for (number, message) in messages.iter().enumerate() {
        let (bytes, fds) = match message {
            Sent::Bytes(bytes) => (bytes.clone(), Vec::new()),
            Sent::Command { command, words, tail, flags, fds } => {
                let body = [raw_client::words(words), tail.clone()].concat();
                let size = u32::try_from(body.len()).unwrap();
                let id = u16::try_from(number).unwrap();
                let header = Header::command(id, Command(*command), size, *flags);
                let fds = fds.iter().map(|&is_memory| if is_memory { memory.as_fd() } else { event.as_fd() });
                ([header.as_bytes(), &body].concat(), fds.collect())
            }
        };
        if raw.send(&bytes, &fds).is_err() {
            return;
        }
    }
    // A question at the end; the answer to it comes last, unless the server has dropped us.
    let end = raw.message(Command::DEVICE_GET_INFO, &raw_client::words(&[16, 0, 0, 0]), 0);
    if raw.send(&[&end[..2], &end[2..]].concat(), &[]).is_err() {
        return;
    }
    loop {
        match raw.receive() {
            Ok(reply) => {
                assert_eq!(reply.header.is_reply(), Some(true));
                assert!(!reply.header.has(flag::ERROR) || reply.body.is_empty());
                if reply.header.id.get() == u16::from_ne_bytes([end[0], end[1]])
                    && reply.header.kind() == Command::DEVICE_GET_INFO
                {
                    return;
                }
            }
            Err(SocketError::Closed | SocketError::Cut(_)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_are_answered_or_end_the_conversation(
        messages in prop::collection::vec(sent(), 1..30), negotiates in prop::bool::weighted(0.95),
    ) {
        let place = tempfile::tempdir().unwrap();
        let model = Arc::new(Strict::new());
        let patience = Patience { handshake: Duration::from_millis(50), message: Duration::from_millis(50) };
        let server = Server::start_with(place.path(), Arc::clone(&model) as Arc<_>, patience).unwrap();
        let memory = memfd_create(c"client", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 0x4000).unwrap();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mut raw = if negotiates { Raw::connect(place.path()) } else { Raw::silent(place.path()) };
        converse(&mut raw, &messages, &memory, &event);
        drop(raw);
        let mut next = Raw::connect(place.path());
        let info = next.ask(Command::DEVICE_GET_INFO, &raw_client::words(&[16, 0, 0, 0]));
        prop_assert!(info.is_ok());
        prop_assert!(model.mapped.lock().unwrap().is_empty(), "memory of a client that left");
        drop(next);
        drop(server);
        let wrongs = model.wrongs.lock().unwrap();
        prop_assert!(wrongs.is_empty(), "{wrongs:?}");
    }
}
