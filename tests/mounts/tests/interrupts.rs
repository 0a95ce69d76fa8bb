//! Completions that are waited for by interrupts alone, from a controller in another process.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engine_dma::Pool;
use engine_nvme::{Controller, DriverOptions, Run, Waiting};
use engine_transport::{Transport, TransportMemory};
use engine_vfio_user::VfioUserTransport;
use mounts::ControllerProcess;

/// How long a read waits whose interrupt is lost, and how long one may take that has one.
const LOST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(20);
/// Looks after which a waiting caller sleeps.
const LOOKS: u32 = 3000;

#[test]
fn reads_over_vfio_user_that_are_only_waited_for_end_by_their_interrupts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("disk.img");
    let bytes: Vec<u8> =
        (0..1_u32 << 20).map(|at| u8::try_from(at / 512 % 251).unwrap_or_default()).collect();
    fs::write(&image, &bytes)?;
    let process = ControllerProcess::start([&image], &["--read-only"])?;
    let transport: Arc<dyn Transport> = VfioUserTransport::connect(&process.socket())?;
    assert!(transport.interrupts() > 1);
    // The clock is of no help: a step of it is longer than the test.
    let options = DriverOptions { timeout: LOST * 32, queues: 1, ..DriverOptions::default() };
    let controller = Controller::open(Arc::clone(&transport), options)?;
    let mut pair = controller.pair()?;
    let mut pool = Pool::of(Arc::new(TransportMemory(transport)), 4 << 20, 4);
    let buffer = pool.take(4096)?;
    let within = buffer.address().addr().get() - buffer.arena().base().addr().get();
    let registration = buffer.arena().registration().context("memory that nobody knows")?;
    let iova = registration.handle + u64::try_from(within)?;
    for at in 0..200_u64 {
        // Such a caller does not look any more, but sleeps at once.
        let mut waiting = Waiting::default();
        for _ in 0..LOOKS {
            pair.pause(&mut waiting, Duration::ZERO);
        }
        pair.read(at, 1, at * 8, 8, Run { iova, length: 4096 })?;
        pair.ring();
        let (start, mut ended) = (Instant::now(), None);
        while ended.is_none() {
            pair.pause(&mut waiting, LOST);
            pair.reap(1, |completed| ended = Some(completed));
            assert!(start.elapsed() < LONGEST, "read {at}: no interrupt");
        }
        assert!(ended.is_some_and(|ended| ended.token == at && ended.status.is_success()), "{ended:?}");
        let from = usize::try_from(at * 4096)?;
        assert!(buffer[..] == bytes[from..from + 4096], "read {at}");
    }
    Ok(())
}
