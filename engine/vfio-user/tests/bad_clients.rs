//! The server against clients that lie, flood, stop and talk nonsense: each is refused or dropped, and the next one is
//! served as if nothing had been.

#[path = "peers/device.rs"]
mod device;
#[path = "peers/raw_client.rs"]
mod raw_client;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device::{Sums, serve};
use engine_transport::Transport;
use engine_vfio_user::pci::PciDevice;
use engine_vfio_user::wire::{
    Capabilities, Command, DmaMap, DmaUnmap, IrqSet, RegionAccess, RegionInfo, irq_set_flag, read_version,
    write_version,
};
use engine_vfio_user::{ListenError, Patience, Server, SocketError, VfioUserTransport};
use raw_client::{Raw, words};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

const EEXIST: i32 = Errno::EXIST.raw_os_error();
const EINVAL: i32 = Errno::INVAL.raw_os_error();
const ENODEV: i32 = Errno::NODEV.raw_os_error();
const ENOENT: i32 = Errno::NOENT.raw_os_error();
const ENOSYS: i32 = Errno::NOSYS.raw_os_error();

fn impatient(path: &std::path::Path) -> (Arc<PciDevice<Sums>>, Server) {
    let device = Arc::new(PciDevice::new(Sums::new()));
    let short = Duration::from_millis(150);
    let patience = Patience { handshake: short, message: short };
    let server = Server::start_with(path, Arc::clone(&device) as Arc<_>, patience).unwrap();
    (device, server)
}

/// Whether the server has closed the connection, as it should soon.
fn is_dropped(raw: &Raw) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        match raw.receive() {
            Ok(_) => {}
            Err(error) => return matches!(error, SocketError::Closed | SocketError::Cut(_)),
        }
    }
    false
}

/// A good client finds everything as it should be, soon.
fn check_served(path: &std::path::Path) {
    let start = Instant::now();
    let client = VfioUserTransport::connect(path).unwrap();
    let arena = client.arena(4096).unwrap();
    assert_eq!(client.read32(0x14).unwrap(), 0, "reset");
    client.write64(0x48, arena.registration().unwrap().handle).unwrap();
    client.write32(0x40, 1).unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
}

fn memory(length: u64) -> OwnedFd {
    let file = memfd_create(c"client", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, length).unwrap();
    file
}

fn map(flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let (flags, offset) = (flags.into(), offset.into());
    DmaMap { argsz: 32.into(), flags, offset, address: address.into(), size: size.into() }.as_bytes().to_vec()
}

fn unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    DmaUnmap { argsz: 24.into(), flags: flags.into(), address: address.into(), size: size.into() }
        .as_bytes()
        .to_vec()
}

#[test]
fn client_that_does_not_begin_or_begins_wrongly_is_dropped_and_holds_nobody_up() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = impatient(place.path());
    let version = write_version(0, 1, &Capabilities::default());
    let mut scratch = Raw::silent(place.path());
    let begin = |raw: &mut Raw, command, body: &[u8]| raw.message(command, body, 0);
    let beginnings: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half a header", begin(&mut scratch, Command::VERSION, &version)[..9].to_vec()),
        ("half a version", begin(&mut scratch, Command::VERSION, &version)[..30].to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("another command", begin(&mut scratch, Command::DEVICE_GET_INFO, &words(&[16, 0, 0, 0]))),
        ("a reset", begin(&mut scratch, Command::DEVICE_RESET, &[])),
        ("another major version", begin(&mut scratch, Command::VERSION, &[1, 0, 0, 0])),
        ("no version", begin(&mut scratch, Command::VERSION, &[])),
        ("no JSON", begin(&mut scratch, Command::VERSION, b"\0\0\x01\0nonsense\0")),
        ("a gigabyte", [words(&[1 << 16, 1 << 30, 0, 0]), vec![0; 64]].concat()),
    ];
    drop(scratch);
    for (what, bytes) in beginnings {
        let start = Instant::now();
        let mut raw = Raw::silent(place.path());
        raw.stream.write_all(&bytes).unwrap();
        assert!(is_dropped(&raw), "{what}");
        assert!(start.elapsed() < Duration::from_secs(1), "{what}: {:?}", start.elapsed());
    }
    check_served(place.path());
}

#[test]
fn client_that_stops_within_a_message_is_dropped() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = impatient(place.path());
    let mut raw = Raw::connect(place.path());
    let file = memory(1 << 20);
    raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[&file]).unwrap();
    // Longer than a message may take, between two messages: that is no reason.
    std::thread::sleep(Duration::from_millis(300));
    let message = raw.message(Command::REGION_WRITE, &[0; 64], 0);
    raw.stream.write_all(&message[..40]).unwrap();
    let start = Instant::now();
    assert!(is_dropped(&raw));
    assert!(start.elapsed() < Duration::from_secs(1));
    check_served(place.path());
    assert!(device.function().resets.load(Ordering::Relaxed) >= 1);
}

#[test]
fn client_that_floods_and_reads_no_answers_is_dropped() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = impatient(place.path());
    let mut raw = Raw::connect(place.path());
    let access = RegionAccess { offset: 0.into(), region: 0.into(), count: 0x3000.into() };
    let message = raw.message(Command::REGION_READ, access.as_bytes(), 0);
    raw.stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let start = Instant::now();
    let flooded = (0..100_000).any(|_| raw.stream.write_all(&message).is_err());
    assert!(flooded && start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    check_served(place.path());
}

#[test]
fn descriptors_in_masses_drop_the_client_and_are_closed() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = impatient(place.path());
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let file = memory(4096);
    let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); 253];
    let before = open();
    for split in [1, 4] {
        let mut raw = Raw::connect(place.path());
        let message = raw.message(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), 0);
        // 1,000 and more, with bytes of one message.
        for part in message.chunks(message.len() / split) {
            let _ = raw.send(part, &many);
        }
        assert!(is_dropped(&raw));
    }
    let mut trickle = Raw::connect(place.path());
    let message = trickle.message(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), 0);
    let sent = message.iter().take_while(|byte| trickle.send(&[**byte], &[file.as_fd()]).is_ok()).count();
    assert!(sent >= 16 && is_dropped(&trickle), "one with each byte: {sent}");
    drop(trickle);
    check_served(place.path());
    let start = Instant::now();
    while open() > before && start.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(open() <= before, "{} descriptors open, {before} before", open());
}

#[test]
fn descriptors_that_nobody_asked_for_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let file = memory(4096);
    let info = words(&[16, 0, 0, 0]);
    assert_eq!(raw.ask_with(Command::DEVICE_GET_INFO, &info, &[&file]).unwrap_err(), EINVAL);
    let two = raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[&file, &file]);
    assert_eq!(two.unwrap_err(), EINVAL);
    // SPDK sends the file with an unmap.
    raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[&file]).unwrap();
    raw.ask_with(Command::DMA_UNMAP, &unmap(0, 0x1000, 0x1000), &[&file]).unwrap();
}

#[test]
fn unknown_and_unsupported_commands_are_answered_with_errors() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    for command in [0, 19, 20, 0xff, 0x7fff, 0xffff] {
        assert_eq!(raw.ask(Command(command), &[1, 2, 3]).unwrap_err(), ENOSYS, "{command}");
    }
    let version = write_version(0, 1, &Capabilities::default());
    assert_eq!(raw.ask(Command::VERSION, &version).unwrap_err(), EINVAL, "a second time");
    for command in [Command::DMA_READ, Command::DMA_WRITE] {
        assert_eq!(raw.ask(command, &[0; 16]).unwrap_err(), EINVAL);
    }
    for command in [Command::DIRTY_PAGES, Command::MIG_DATA_READ, Command::MIG_DATA_WRITE] {
        assert_eq!(raw.ask(command, &[0; 8]).unwrap_err(), Errno::OPNOTSUPP.raw_os_error());
    }
    assert_eq!(raw.ask(Command::DEVICE_FEATURE, &[0; 8]).unwrap_err(), Errno::NOTTY.raw_os_error());
    for command in 2..=18 {
        // With nothing where there should be something.
        let outcome = raw.ask(Command(command), &[]);
        assert_eq!(outcome.is_ok(), Command(command) == Command::DEVICE_RESET, "{command}");
    }
    raw.ask(Command::DEVICE_GET_INFO, &words(&[16, 0, 0, 0])).unwrap();
}

#[test]
fn reply_from_a_client_drops_it() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    for flags in [1, 2, 15] {
        let mut raw = Raw::connect(place.path());
        let message = raw.message(Command::DMA_READ, &[0; 16], flags);
        raw.stream.write_all(&message).unwrap();
        assert!(is_dropped(&raw), "{flags}");
    }
}

#[test]
fn memory_that_is_none_or_lies_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let file = memory(0x4000);
    let top = u64::MAX - 0xfff;
    for (what, flags, offset, address, size, errno) in [
        ("nothing", 3, 0, 0x1000, 0, EINVAL),
        ("more than the file has", 3, 0, 0x1000, 0x5000, EINVAL),
        ("beyond the file", 3, 0x4000, 0x1000, 0x1000, EINVAL),
        ("around the end of all offsets", 3, top, 0x1000, 0x2000, EINVAL),
        ("around the end of all addresses", 3, 0, top, 0x2000, EINVAL),
        ("everything", 3, 0, 0, top, EINVAL),
        ("no whole pages", 3, 0, 0x1000, 0x800, EINVAL),
        ("an offset within a page", 3, 8, 0x1000, 0x1000, EINVAL),
        ("an address within a page", 3, 0, 0x1008, 0x1000, EINVAL),
        ("neither read nor write", 0, 0, 0x1000, 0x1000, EINVAL),
        ("flags that are none", 0x43, 0, 0x1000, 0x1000, EINVAL),
    ] {
        let refused = raw.ask_with(Command::DMA_MAP, &map(flags, offset, address, size), &[&file]);
        assert_eq!(refused.unwrap_err(), errno, "{what}");
    }
    let special = |path| OwnedFd::from(File::open(path).unwrap());
    for (what, fd) in [
        ("an eventfd", rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()),
        ("a socket", OwnedFd::from(UnixStream::pair().unwrap().0)),
        ("a directory", special("/dev/shm")),
        ("a device", special("/dev/zero")),
        ("a process's memory", special("/proc/self/mem")),
        ("a program", special("/proc/self/exe")),
    ] {
        let refused = raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[&fd]);
        assert_eq!(refused.unwrap_err(), ENODEV, "{what}");
    }
    let read_only = OwnedFd::from(
        File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap(),
    );
    assert!(raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[&read_only]).is_err());
    assert!(device.function().space.is_empty());
    raw.ask_with(Command::DMA_MAP, &map(1, 0, 0x1000, 0x1000), &[&read_only]).unwrap();
}

#[test]
fn memory_mapped_twice_or_unmapped_wrongly_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let file = memory(0x4000);
    raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x10000, 0x2000), &[&file]).unwrap();
    for (address, size) in
        [(0x10000, 0x2000), (0xf000, 0x2000), (0x11000, 0x2000), (0xf000, 0x4000), (0x11000, 0x1000)]
    {
        let again = raw.ask_with(Command::DMA_MAP, &map(3, 0, address, size), &[&file]);
        assert_eq!(again.unwrap_err(), EEXIST, "{address:#x} {size:#x}");
        let without = raw.ask(Command::DMA_MAP, &map(3, 0, address, size));
        assert_eq!(without.unwrap_err(), EEXIST, "{address:#x} {size:#x}");
    }
    for (address, size) in [(0x10000, 0x1000), (0x11000, 0x1000), (0x10000, 0x3000), (0xf000, 0x1000), (0, 0)]
    {
        let refused = raw.ask(Command::DMA_UNMAP, &unmap(0, address, size));
        assert_eq!(refused.unwrap_err(), ENOENT, "{address:#x} {size:#x}");
    }
    assert_eq!(
        raw.ask(Command::DMA_UNMAP, &unmap(2, 0x10000, 0x2000)).unwrap_err(),
        EINVAL,
        "all, but with a range"
    );
    assert!(raw.ask(Command::DMA_UNMAP, &unmap(1, 0x10000, 0x2000)).is_err(), "with a dirty bitmap");
    let reply = raw.ask(Command::DMA_UNMAP, &unmap(0, 0x10000, 0x2000)).unwrap();
    assert_eq!(reply.body, unmap(0, 0x10000, 0x2000));
    raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x10000, 0x2000), &[&file]).unwrap();
    raw.ask(Command::DMA_MAP, &map(3, 0, 0x20000, 0x2000)).unwrap();
    raw.ask(Command::DMA_UNMAP, &unmap(2, 0, 0)).unwrap();
    assert_eq!(raw.ask(Command::DMA_UNMAP, &unmap(0, 0x10000, 0x2000)).unwrap_err(), ENOENT);
}

#[test]
fn maps_beyond_the_bound_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let refused = (0..20_000_u64).find_map(|number| {
        raw.ask(Command::DMA_MAP, &map(3, 0, number * 0x1000, 0x1000)).err().map(|errno| (number, errno))
    });
    assert_eq!(refused, Some((16_384, Errno::NOSPC.raw_os_error())));
    raw.ask(Command::DMA_UNMAP, &unmap(0, 0x5000, 0x1000)).unwrap();
    raw.ask(Command::DMA_MAP, &map(3, 0, 0x5000, 0x1000)).unwrap();
}

#[test]
fn memory_cut_off_by_its_owner_reads_as_zeros_and_hurts_nobody() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let file = memory(0x4000);
    raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x10000, 0x4000), &[&file]).unwrap();
    let write = |offset: u64, region: u32, data: &[u8]| {
        let count = u32::try_from(data.len()).unwrap().into();
        let access = RegionAccess { offset: offset.into(), region: region.into(), count };
        [access.as_bytes(), data].concat()
    };
    // Bus master, then the address, then the command that fills memory.
    raw.ask(Command::REGION_WRITE, &write(4, 7, &[6, 0])).unwrap();
    raw.ask(Command::REGION_WRITE, &write(0x48, 0, &0x12000_u64.to_le_bytes())).unwrap();
    ftruncate(&file, 0).unwrap();
    raw.ask(Command::REGION_WRITE, &write(0x40, 0, &2_u32.to_le_bytes())).unwrap();
    raw.ask(Command::REGION_WRITE, &write(0x40, 0, &1_u32.to_le_bytes())).unwrap();
    assert_eq!(
        device.function().registers.lock().unwrap()[0x50..0x52],
        [0xa0, 0xa5],
        "memory of the server's own"
    );
    drop(raw);
    check_served(place.path());
}

#[test]
fn region_accesses_out_of_range_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let access = |offset: u64, region: u32, count: u32| {
        RegionAccess { offset: offset.into(), region: region.into(), count: count.into() }.as_bytes().to_vec()
    };
    for (offset, region, count) in [
        (0x4000, 0, 1),
        (0x3fff, 0, 2),
        (u64::MAX, 0, 1),
        (u64::MAX - 3, 0, 8),
        (0, 0, 0x4001),
        (0, 0, u32::MAX),
        (0, 1, 1),
        (0, 8, 1),
        (0, 9, 1),
        (0, u32::MAX, 1),
        (0xffd, 7, 4),
    ] {
        let read = raw.ask(Command::REGION_READ, &access(offset, region, count));
        assert_eq!(read.unwrap_err(), EINVAL, "read {offset:#x} {region} {count}");
        let data = vec![0; usize::try_from(count.min(0x5000)).unwrap()];
        let write = raw.ask(Command::REGION_WRITE, &[access(offset, region, count), data].concat());
        assert_eq!(write.unwrap_err(), EINVAL, "write {offset:#x} {region} {count}");
    }
    let more = [access(0, 0, 4), vec![0; 5]].concat();
    assert_eq!(raw.ask(Command::REGION_WRITE, &more).unwrap_err(), EINVAL, "another count than bytes");
    let more = [access(0, 0, 4), vec![0; 4]].concat();
    assert_eq!(raw.ask(Command::REGION_READ, &more).unwrap_err(), EINVAL, "a read with data");
    let read = raw.ask(Command::REGION_READ, &access(0x3fff, 0, 1)).unwrap();
    assert_eq!(read.body, [access(0x3fff, 0, 1), vec![0]].concat());
    let nothing = raw.ask(Command::REGION_READ, &access(0x4000, 0, 0)).unwrap();
    assert_eq!(nothing.body, access(0x4000, 0, 0));
}

#[test]
fn several_writes_in_one_message_happen_in_order_and_malformed_ones_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let one = |offset: u64, count: u32, data: [u8; 8]| {
        let access = RegionAccess { offset: offset.into(), region: 0.into(), count: count.into() };
        [access.as_bytes(), &data].concat()
    };
    let many = |count: u64, writes: &[Vec<u8>]| [&count.to_ne_bytes()[..], &writes.concat()].concat();
    let writes = [one(0x14, 4, [1; 8]), one(0x14, 2, [2; 8]), one(0x18, 8, [3; 8])];
    let reply = raw.ask(Command::REGION_WRITE_MULTI, &many(3, &writes)).unwrap();
    assert_eq!(reply.body, 3_u64.to_ne_bytes());
    let expected = [2, 2, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3];
    assert_eq!(device.function().registers.lock().unwrap()[0x14..0x20], expected);
    for (what, body) in [
        ("more than there are", many(4, &writes)),
        ("fewer than there are", many(2, &writes)),
        ("as many as overflow", many(u64::MAX, &writes)),
        ("nine bytes", many(1, &[one(0, 9, [0; 8])])),
        ("out of range", many(1, &[one(0x3ffe, 4, [0; 8])])),
    ] {
        assert_eq!(raw.ask(Command::REGION_WRITE_MULTI, &body).unwrap_err(), EINVAL, "{what}");
    }
}

#[test]
fn interrupts_connected_wrongly_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let set = |flags: u32, index: u32, start: u32, count: u32| {
        let (argsz, flags, index) = (20.into(), flags.into(), index.into());
        IrqSet { argsz, flags, index, start: start.into(), count: count.into() }.as_bytes().to_vec()
    };
    let connect = irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER;
    for (what, flags, index, start, count) in [
        ("no such kind", connect, 5, 0, 1),
        ("a kind that there is none of", connect, 0, 0, 1),
        ("a vector too many", connect, 2, 4, 1),
        ("around", connect, 2, u32::MAX, 1),
        ("two with one descriptor", connect, 2, 0, 2),
        ("none with one descriptor", connect, 2, 0, 0),
        ("no data with a descriptor", irq_set_flag::DATA_NONE | irq_set_flag::ACTION_TRIGGER, 2, 0, 1),
        ("masking", irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_MASK, 2, 0, 1),
        ("two actions", connect | irq_set_flag::ACTION_MASK, 2, 0, 1),
        ("no action", irq_set_flag::DATA_EVENTFD, 2, 0, 1),
        ("bits that are none", connect | 0x100, 2, 0, 1),
    ] {
        let refused = raw.ask_with(Command::DEVICE_SET_IRQS, &set(flags, index, start, count), &[&event]);
        assert_eq!(refused.unwrap_err(), EINVAL, "{what}");
    }
    let file = memory(4096);
    let (socket, _other) = UnixStream::pair().unwrap();
    for fd in [&file, &OwnedFd::from(socket)] {
        let refused = raw.ask_with(Command::DEVICE_SET_IRQS, &set(connect, 2, 1, 1), &[fd]);
        assert_eq!(refused.unwrap_err(), EINVAL, "no eventfd");
    }
    let vector = || device.function().vectors.lock().unwrap()[1].is_some();
    raw.ask_with(Command::DEVICE_SET_IRQS, &set(connect, 2, 1, 1), &[&event]).unwrap();
    assert!(vector());
    let trigger = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_TRIGGER;
    raw.ask(Command::DEVICE_SET_IRQS, &set(trigger, 2, 0, 4)).unwrap();
    let mut counter = [0; 8];
    rustix::io::read(&event, &mut counter).unwrap();
    assert_eq!(u64::from_ne_bytes(counter), 1, "the client triggers it itself");
    // A counter that is full makes nobody wait.
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    raw.ask(Command::DEVICE_SET_IRQS, &set(trigger, 2, 1, 1)).unwrap();
    raw.ask(Command::DEVICE_SET_IRQS, &set(connect, 2, 0, 4)).unwrap();
    assert!(!vector(), "disconnected");
    raw.ask_with(Command::DEVICE_SET_IRQS, &set(connect, 2, 1, 1), &[&event]).unwrap();
    raw.ask(Command::DEVICE_SET_IRQS, &set(trigger, 2, 0, 0)).unwrap();
    assert!(!vector(), "all of a kind disconnected");
    raw.ask_with(Command::DEVICE_SET_IRQS, &set(connect, 2, 1, 1), &[&event]).unwrap();
    drop(raw);
    check_served(place.path());
    assert!(!vector(), "the client left");
}

#[test]
fn version_reply_is_no_longer_than_qemus_proposal_and_offers_no_more() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::silent(place.path());
    // What QEMU 10.1 proposes (hw/vfio-user/proxy.c); it takes no longer reply than it sent.
    let proposal = b"\0\0\0\0{\"capabilities\": {\"max_msg_fds\": 16, \"max_data_xfer_size\": 1048576, \"pgsizes\": 4096, \
        \"max_dma_maps\": 65535, \"migration\": {\"pgsize\": 4096, \"max_bitmap_size\": 268435456}, \
        \"write_multiple\": true}}\0";
    let reply = raw.ask(Command::VERSION, proposal).unwrap();
    assert!(reply.body.len() <= proposal.len(), "{}", String::from_utf8_lossy(&reply.body[4..]));
    let (major, minor, capabilities) = read_version(&reply.body).unwrap();
    let expected = Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(1 << 20),
        max_dma_maps: Some(16_384),
        pgsizes: Some(4096),
        write_multiple: Some(true),
        ..Capabilities::default()
    };
    assert_eq!((major, minor, capabilities), (0, 0, Some(expected)));
}

#[test]
fn region_described_in_too_little_room_says_how_much_it_takes() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let mut raw = Raw::connect(place.path());
    let ask = |raw: &mut Raw, argsz: u32, index: u32| {
        raw.ask(Command::DEVICE_GET_REGION_INFO, &words(&[argsz, 0, index, 0, 0, 0, 0, 0]))
    };
    let short = ask(&mut raw, 32, 0).unwrap();
    let info = RegionInfo::read_from_bytes(&short.body).unwrap();
    assert_eq!(
        (info.argsz.get(), info.flags.get(), info.cap_offset.get(), info.size.get()),
        (64, 7, 0, 0x4000)
    );
    assert!(short.fds.is_empty());
    let whole = ask(&mut raw, 64, 0).unwrap();
    assert_eq!((whole.body.len(), whole.fds.len()), (64, 1));
    let info = RegionInfo::read_from_prefix(&whole.body).unwrap().0;
    assert_eq!((info.flags.get(), info.cap_offset.get(), info.offset.get()), (15, 32, 0));
    let capability = [words(&[1 | 1 << 16, 0, 1, 0]), words(&[0x1000, 0, 0x2000, 0])].concat();
    assert_eq!(whole.body[32..], capability);
    assert_eq!(ask(&mut raw, 31, 0).unwrap_err(), EINVAL);
    assert_eq!(ask(&mut raw, 64, 9).unwrap_err(), EINVAL);
    let empty = RegionInfo::read_from_bytes(&ask(&mut raw, 64, 1).unwrap().body).unwrap();
    assert_eq!((empty.flags.get(), empty.size.get()), (0, 0));
}

#[test]
fn command_register_takes_memory_and_registers_away() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    let _arena = client.arena(4096).unwrap();
    assert_eq!(device.function().space.len(), 1);
    let mut raw_command = [0; 2];
    client.read_config(4, &mut raw_command).unwrap();
    assert_eq!(u16::from_le_bytes(raw_command), 0x406);
    drop((_arena, client));
    let mut raw = Raw::connect(place.path());
    let file = memory(0x1000);
    let config = |value: u16| {
        let access = RegionAccess { offset: 4.into(), region: 7.into(), count: 2.into() };
        [access.as_bytes(), &value.to_le_bytes()].concat()
    };
    raw.ask_with(Command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[&file]).unwrap();
    assert_eq!(device.function().space.len(), 0, "no bus master yet");
    raw.ask(Command::REGION_WRITE, &config(6)).unwrap();
    assert_eq!(device.function().space.len(), 1);
    raw.ask(Command::REGION_WRITE, &config(0)).unwrap();
    assert_eq!(device.function().space.len(), 0);
    let register = RegionAccess { offset: 0.into(), region: 0.into(), count: 4.into() };
    let read = raw.ask(Command::REGION_READ, register.as_bytes()).unwrap();
    assert_eq!(read.body[16..], [0xff; 4], "memory is disabled");
    raw.ask(Command::REGION_WRITE, &config(6)).unwrap();
    assert_eq!(device.function().space.len(), 1);
    raw.ask(Command::DEVICE_RESET, &[]).unwrap();
    assert_eq!(device.function().space.len(), 0, "a reset ends bus mastering");
}

#[test]
fn socket_left_over_is_replaced_and_one_in_use_or_no_socket_is_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("cntrl");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left over");
    let (_device, server) = serve(place.path());
    let second = Server::start(place.path(), Arc::new(PciDevice::new(Sums::new())));
    assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
    check_served(place.path());
    drop(server);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let file = Server::start(place.path(), Arc::new(PciDevice::new(Sums::new())));
    assert!(matches!(file, Err(ListenError::NotASocket { .. })), "{file:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let long = Server::start(&place.path().join("x".repeat(120)), Arc::new(PciDevice::new(Sums::new())));
    assert!(matches!(long, Err(ListenError::TooLong { .. })), "{long:?}");
}

#[test]
fn socket_replaced_by_somebody_elses_is_not_removed() {
    let place = tempfile::tempdir().unwrap();
    let (_device, server) = serve(place.path());
    let path = server.socket().to_owned();
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
}

#[test]
fn server_stopped_while_a_client_is_connected_or_silent_ends_at_once() {
    for silent in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let (device, server) = serve(place.path());
        let raw = if silent { Raw::silent(place.path()) } else { Raw::connect(place.path()) };
        std::thread::sleep(Duration::from_millis(50));
        assert!(server.is_serving());
        let start = Instant::now();
        drop(server);
        assert!(start.elapsed() < Duration::from_millis(500));
        assert!(is_dropped(&raw));
        assert_eq!(device.function().resets.load(Ordering::Relaxed), 1);
    }
}
