//! Client and server in processes of their own, one of which is killed.

#[path = "peers/device.rs"]
mod device;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device::serve;
use engine_transport::{Transport, TransportError};
use engine_vfio_user::VfioUserTransport;

/// Where the other process finds the socket; without it the tests below that are the other process do nothing.
const PLACE: &str = "VFIO_USER_TEST_PLACE";

/// Runs one of the tests of this file in a process of its own.
fn spawn(test: &str, place: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env(PLACE, place).stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The other process: serves until it is killed or its input ends.
#[test]
fn other_process_serves() {
    let Some(place) = place() else { return };
    let _served = serve(&place);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

/// The other process: maps memory, says so in a register, and stays until it is killed.
#[test]
fn other_process_asks() {
    let Some(place) = place() else { return };
    let client = VfioUserTransport::connect(&place).unwrap();
    let _arena = client.arena(4096).unwrap();
    client.write32(0x14, 42).unwrap();
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[test]
fn server_killed_is_gone_at_once_for_a_client_that_waits_for_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut server = spawn("other_process_serves", place.path());
    until("the server listens", || place.path().join("cntrl").exists());
    let client = VfioUserTransport::connect(place.path()).unwrap();
    let arena = client.arena(4096).unwrap();
    arena.region().write(0, &5_u32.to_le_bytes()).unwrap();
    client.write64(0x48, arena.registration().unwrap().handle).unwrap();
    client.write32(0x40, 1).unwrap();
    assert_eq!(client.read32(0x50).unwrap(), 5, "memory is shared between processes");
    server.kill().unwrap();
    server.wait().unwrap();
    let start = Instant::now();
    let gone = client.read32(0).unwrap_err();
    assert!(matches!(gone, TransportError::Gone { .. }), "{gone}");
    drop(arena);
    assert!(start.elapsed() < Duration::from_secs(1));

    // What it left behind does not keep the next one from listening.
    assert!(place.path().join("cntrl").exists());
    let mut next = spawn("other_process_serves", place.path());
    until("the next server answers", || {
        VfioUserTransport::connect(place.path()).is_ok_and(|client| client.read32(0x50).unwrap() == 0)
    });
    drop(next.stdin.take());
    next.wait().unwrap();
    assert!(!place.path().join("cntrl").exists(), "a server that ends removes its socket");
}

#[test]
fn client_killed_leaves_a_device_that_is_reset_and_reaches_none_of_its_memory() {
    let place = tempfile::tempdir().unwrap();
    let (device, _server) = serve(place.path());
    let mut client = spawn("other_process_asks", place.path());
    let register = || device.function().registers.lock().unwrap()[0x14];
    until("the client has mapped memory", || register() == 42);
    assert_eq!(device.function().space.len(), 1);
    client.kill().unwrap();
    client.wait().unwrap();
    until("the device is reset", || device.function().resets.load(Ordering::Relaxed) == 1);
    until("its memory is gone", || device.function().space.is_empty());
    assert_eq!(register(), 0);
    VfioUserTransport::connect(place.path()).unwrap().read32(0).unwrap();
}
