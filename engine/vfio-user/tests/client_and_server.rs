//! The client against the server, in one process.

#[path = "peers/device.rs"]
mod device;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device::serve;
use engine_dma::{PAGE, Pool};
use engine_transport::{Transport, TransportError, TransportMemory};
use engine_vfio_user::VfioUserTransport;

#[test]
fn registers_written_through_the_socket_read_back() {
    let place = tempfile::tempdir().unwrap();
    let (device, server) = serve(place.path());
    assert_eq!(server.socket(), place.path().join("cntrl"));
    let client = VfioUserTransport::connect(place.path()).unwrap();
    client.write32(0x14, 0x1234_5678).unwrap();
    client.write64(0x28, 0x0123_4567_89ab_cdef).unwrap();
    assert_eq!(client.read32(0x14).unwrap(), 0x1234_5678);
    assert_eq!(client.read64(0x28).unwrap(), 0x0123_4567_89ab_cdef);
    assert_eq!(client.read32(0x2c).unwrap(), 0x0123_4567);
    assert_eq!(client.bar_size(), 0x4000);
    assert_eq!(client.read32(0x3ffc).unwrap(), 0, "past the device's registers, within its BAR");
    let outside = client.read32(0x4000);
    assert!(matches!(outside, Err(TransportError::Refused { .. })), "{outside:?}");
    assert_eq!(device.function().registers.lock().unwrap()[0x14], 0x78);
}

#[test]
fn doorbell_written_by_the_client_is_seen_in_the_devices_memory() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    let doorbells = client.doorbells().expect("doorbells can be mapped");
    assert_eq!(doorbells.length(), 0x2000);
    doorbells.u32_at(8).unwrap().store(7, Ordering::Release);
    assert_eq!(device.function().doorbells.load_u32(8), Some(7));
    client.write32(0x100c, 9).unwrap();
    assert_eq!(device.function().doorbells.load_u32(12), Some(9));
}

#[test]
fn memory_of_the_client_is_read_and_written_by_the_device_until_it_is_dropped() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    let arena = client.arena(10_000).unwrap();
    let registration = arena.registration().unwrap();
    assert_eq!(registration.owner, client.id());
    assert_eq!(arena.length(), 2 << 20);
    assert_eq!(device.function().space.len(), 1);
    for word in 0..16_u32 {
        arena
            .region()
            .write(8192 + usize::try_from(word).unwrap() * 4, &(word * word).to_le_bytes())
            .unwrap();
    }
    client.write64(0x48, registration.handle + 8192).unwrap();
    client.write32(0x40, 1).unwrap();
    assert_eq!(client.read32(0x50).unwrap(), (0..16).map(|word| word * word).sum::<u32>());
    client.write32(0x40, 2).unwrap();
    let mut read = [0; PAGE];
    arena.region().read(8192, &mut read).unwrap();
    assert_eq!(read, [0x5a; PAGE]);
    drop(arena);
    assert!(device.function().space.is_empty(), "the device was told to forget it");
    let unreachable = client.write32(0x40, 1);
    assert!(matches!(unreachable, Err(TransportError::Refused { .. })), "{unreachable:?}");
}

#[test]
fn memory_refused_by_the_device_is_an_error_and_its_address_is_given_again() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    device.function().maps_left.store(1, Ordering::Relaxed);
    let first = client.arena(1).unwrap();
    let refused = client.arena(1);
    let Err(TransportError::Refused { action, source, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::NOMEM.raw_os_error()), "{action}");
    device.function().maps_left.store(1, Ordering::Relaxed);
    let second = client.arena(1).unwrap();
    assert_eq!(second.registration().unwrap().handle, first.registration().unwrap().handle + (2 << 20));
}

#[test]
fn pool_over_the_transport_hands_out_memory_that_the_device_reaches() {
    let place = tempfile::tempdir().unwrap();
    let (_device, _server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    let mut pool = Pool::of(std::sync::Arc::new(TransportMemory(client.clone())), 1 << 20, 4);
    let mut buffer = pool.take(PAGE).unwrap();
    buffer.fill(0);
    buffer[..8].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
    let within = buffer.address().addr().get() - buffer.arena().base().addr().get();
    let iova = buffer.arena().registration().unwrap().handle + u64::try_from(within).unwrap();
    client.write64(0x48, iova).unwrap();
    client.write32(0x40, 1).unwrap();
    assert_eq!(client.read32(0x50).unwrap(), 3);
    drop(client);
    drop(pool);
    assert_eq!(buffer[..4], [1, 0, 0, 0], "a buffer outlives its pool and its transport");
}

#[test]
fn interrupt_connected_is_signalled_also_after_a_reset() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    assert_eq!(client.interrupts(), 4);
    let unconnected = client.write32(0x40, 3);
    assert!(matches!(unconnected, Err(TransportError::Refused { .. })), "{unconnected:?}");
    let interrupt = client.interrupt(1).unwrap();
    assert!(client.interrupt(1).is_err(), "the same vector twice");
    assert!(client.interrupt(4).is_err(), "a vector that is not there");
    assert!(!interrupt.wait(Duration::ZERO).unwrap());
    client.write32(0x40, 3).unwrap();
    assert!(interrupt.wait(Duration::from_secs(5)).unwrap());
    let arena = client.arena(PAGE).unwrap();
    client.reset().unwrap();
    assert_eq!(device.function().resets.load(Ordering::Relaxed), 1);
    client.write32(0x40, 3).unwrap();
    assert!(interrupt.wait(Duration::from_secs(5)).unwrap());
    client.write64(0x48, arena.registration().unwrap().handle).unwrap();
    client.write32(0x40, 1).unwrap();
}

#[test]
fn server_stopped_is_gone_for_everyone_and_for_ever() {
    let place = tempfile::tempdir().unwrap();
    let (_device, server) = serve(place.path());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    let arena = client.arena(PAGE).unwrap();
    client.read32(0).unwrap();
    drop(server);
    assert!(!place.path().join("cntrl").exists(), "the socket is removed");
    for _ in 0..3 {
        let gone = client.read32(0);
        assert!(matches!(gone, Err(TransportError::Gone { .. })), "{gone:?}");
    }
    let (_device, _server) = serve(place.path());
    let gone = client.read32(0);
    assert!(matches!(gone, Err(TransportError::Gone { .. })), "{gone:?}");
    let start = Instant::now();
    drop(arena);
    drop(client);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn next_client_finds_the_device_reset_and_without_the_memory_of_the_last() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let first = VfioUserTransport::connect(place.path()).unwrap();
    let arena = first.arena(PAGE).unwrap();
    let _interrupt = first.interrupt(1).unwrap();
    first.write32(0x14, 5).unwrap();
    let path = place.path().to_owned();
    let second = std::thread::spawn(move || {
        let second = VfioUserTransport::connect(&path).unwrap();
        second.read32(0x14).unwrap()
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!second.is_finished(), "the second client waits");
    assert_eq!(first.read32(0x14).unwrap(), 5);
    drop(first);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!second.is_finished(), "memory that is in use holds the connection");
    drop(arena);
    assert_eq!(second.join().unwrap(), 0);
    assert!(device.function().space.is_empty());
    assert!(device.function().vectors.lock().unwrap()[1].is_none());
}
