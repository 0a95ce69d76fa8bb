//! Backings of the software controller that never end what they do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::testing::MemoryDevice;
use engine_block::{BlockDevice, Piece, Pieces, Request};
use engine_controller::backing::BlockBacking;
use engine_controller::{Controller, ControllerOptions, InProcess, NamespaceOptions, Subsystem};
use engine_nvme::{DriverOptions, open};

#[test]
fn backing_that_never_ends_loses_the_controller_and_the_memory_of_reads_is_never_used_again() {
    for threads in [0, 1] {
        let volume = MemoryDevice::new(vec![3; 1 << 20]);
        let namespace = NamespaceOptions::new(Arc::new(BlockBacking::new(Arc::new(volume.clone()))));
        let subsystem = Subsystem::builder().namespace(namespace).build().unwrap();
        let quiet_limit = Duration::from_millis(50);
        let options = ControllerOptions { threads, quiet_limit, ..ControllerOptions::default() };
        let controller = Controller::new(options, subsystem).unwrap();
        let timeout = Duration::from_millis(64);
        let options = DriverOptions { timeout, ..DriverOptions::default() };
        let device = open(Arc::new(InProcess::new("soft:test", controller)), options).unwrap();

        volume.delay(Duration::from_secs(3600));
        let mut queue = device.queue(1).unwrap();
        let buffer = queue.buffer(8192).unwrap();
        let address = buffer.address();
        let pieces = Pieces::from_slice(&[Piece { device_offset: 0, buffer_offset: 0, length: 8192 }]);
        let start = Instant::now();
        let done = queue.read(Request { tag: 1, buffer, pieces });
        assert!(start.elapsed() < Duration::from_secs(20), "{threads} threads: {:?}", start.elapsed());
        assert_eq!(done.result.unwrap_err().errno, 19, "{threads} threads");
        assert!(device.controller().is_gone());
        assert!(done.buffer.address() != address, "{threads} threads: the backing may still write there");
        drop(done.buffer);
        assert!(queue.buffer(8192).unwrap().address() != address);
    }
}
