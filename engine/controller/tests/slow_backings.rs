//! Backings that take longer than anybody waits: nothing says that memory is the host's again while they may write to it.

mod host;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_controller::{Controller, ControllerOptions};
use engine_nvme_spec::{Cc, Csts, Status, admin, nvm, register};
use engine_transport::Transport;
use host::held::HeldBacking;
use host::{Host, LIMIT, pattern, subsystem};

const BYTES: usize = 65536;

fn options(threads: usize, quiet_limit: Duration) -> ControllerOptions {
    ControllerOptions { threads, quiet_limit, ..ControllerOptions::default() }
}

fn host_with(options: ControllerOptions) -> (Host, HeldBacking) {
    let backing = HeldBacking::new(&pattern(1, BYTES));
    let subsystem = subsystem(Arc::new(backing.clone()));
    let mut host = Host::of(Controller::new(options, subsystem).unwrap());
    host.enable();
    host.create_pair(1, 16);
    (host, backing)
}

/// Starts a read of the first blocks on a queue, which its backing holds; where it goes.
fn read_that_is_held(host: &mut Host, backing: &HeldBacking, queue: u16) -> u64 {
    let (at, before, start) = (host.memory.take(4096), backing.begun(), Instant::now());
    host.submit(queue, nvm::read(1, 0, 8).with_prps(at, 0));
    while backing.begun() == before {
        assert!(host.look(queue).is_none());
        assert!(start.elapsed() < LIMIT);
    }
    at
}

#[test]
fn queue_whose_backing_does_not_end_is_not_deleted_and_the_controller_fails() {
    for threads in [0, 1, 2] {
        let (mut host, backing) = host_with(options(threads, Duration::from_millis(50)));
        host.create_pair(2, 16);
        for queue in [2, 1] {
            let at = read_that_is_held(&mut host, &backing, queue);
            let deleted = host.code(0, admin::delete_submission_queue(queue));
            assert_eq!(deleted, Status::INTERNAL_ERROR, "{threads} threads, queue {queue}");
            assert!(host.status().cfs());
            assert!(host.is_quiet(queue), "a command whose memory is in use is not answered");
            assert!(host.memory.read(at, 4096) == [0; 4096]);
        }
        backing.let_go();
        for queue in [1, 2] {
            assert_eq!(host.wait(queue).status(), Status::SUCCESS, "{threads} threads, queue {queue}");
        }
        host.disable();
        assert_eq!(host.status(), Csts::default());
    }
}

#[test]
fn controller_that_is_disabled_stays_ready_until_its_backing_lets_go() {
    for threads in [0, 2] {
        let (mut host, backing) = host_with(options(threads, Duration::from_secs(60)));
        let at = read_that_is_held(&mut host, &backing, 1);
        host.write32(register::CC, Host::enabling().with_en(false).0);
        assert_eq!(host.status(), Csts::default().with_rdy(true), "{threads} threads");
        host.write32(register::CC, Host::enabling().0);
        assert!(!Cc(host.read32(register::CC)).en(), "it cannot be enabled before it has stopped");
        assert!(host.memory.read(at, 4096) == [0; 4096]);
        backing.let_go();
        assert_eq!(host.await_status(|status| !status.rdy()), Csts::default());
        assert!(host.memory.read(at, 4096) == pattern(1, BYTES)[..4096], "it ended before that was said");
        host.memory.write(at, &[7; 4096]);
        host.enable();
        host.create_pair(1, 16);
        let other = host.memory.take(4096);
        host.io_ok(nvm::read(1, 8, 8).with_prps(other, 0));
        assert!(host.memory.read(other, 4096) == pattern(1, BYTES)[4096..8192]);
        assert!(host.memory.read(at, 4096) == [7; 4096]);
    }
}

#[test]
fn reset_that_a_backing_prevents_is_told_after_one_limit_for_all_queues() {
    for threads in [0, 3] {
        let limit = Duration::from_millis(200);
        let (mut host, backing) = host_with(options(threads, limit));
        read_that_is_held(&mut host, &backing, 1);
        for queue in 2..=12 {
            host.create_pair(queue, 16);
            read_that_is_held(&mut host, &backing, queue);
        }
        let start = Instant::now();
        assert!(host.transport.reset().is_err(), "{threads} threads");
        assert!(start.elapsed() < limit * 8, "{threads} threads: {:?}", start.elapsed());
        assert_eq!(host.status(), Csts::default().with_rdy(true).with_cfs(true));
        backing.let_go();
        host.transport.reset().unwrap();
        assert_eq!(host.status(), Csts::default());
    }
}

#[test]
fn memory_of_a_step_that_does_not_end_is_not_used_for_the_next_command() {
    let step_limit = Duration::from_millis(50);
    let options = ControllerOptions { step_limit, ..options(0, Duration::from_secs(60)) };
    let (mut host, backing) = host_with(options);
    let first = host.memory.with(&pattern(1, BYTES)[..4096]);
    let second = host.memory.with(&pattern(1, BYTES)[4096..8192]);
    assert_eq!(host.code(1, nvm::compare(1, 0, 8).with_prps(first, 0)), Status::INTERNAL_ERROR);
    backing.let_go();
    // The second is read, then the first, and only then is the second compared.
    assert_eq!(host.code(1, nvm::compare(1, 8, 8).with_prps(second, 0)), Status::SUCCESS);
}
