//! Registers, enabling, disabling, shutting down and resets (Base, sections 3.1.4 and 3.5 to 3.7).

mod host;

use std::time::Duration;

use engine_controller::ControllerOptions;
use engine_nvme_spec::{Aqa, Cap, Cc, Csts, Status, Version, nvm, register};
use engine_transport::{Assist, Transport};
use host::{Host, memory_subsystem};

fn host() -> Host {
    Host::new(ControllerOptions::default(), memory_subsystem(1 << 20).0)
}

#[test]
fn capabilities_say_what_the_options_gave() {
    let options =
        ControllerOptions { queue_entries: 256, doorbell_stride: 2, ..ControllerOptions::default() };
    let host = Host::new(options, memory_subsystem(1 << 20).0);
    let cap = Cap(host.transport.read64(register::CAP).unwrap());
    assert_eq!((cap.mqes(), cap.dstrd(), cap.cqr(), cap.css() & 1), (255, 2, true, 1), "{cap:?}");
    assert!(cap.to() > 0 && cap.mpsmin() == 0, "{cap:?}");
    assert_eq!(u64::from(host.read32(4)), cap.0 >> 32, "by halves too");
    assert!(Version(host.read32(register::VS)).major() >= 2);
    assert_eq!(host.status(), Csts::default());
}

#[test]
fn registers_are_read_at_any_size_and_alignment_without_harm() {
    let host = host();
    let cap = host.transport.read64(register::CAP).unwrap().to_le_bytes();
    let mut byte = [0];
    host.controller.read_register(1, &mut byte);
    assert_eq!(byte[0], cap[1]);
    let mut odd = [0; 5];
    host.controller.read_register(2, &mut odd);
    assert_eq!(odd, cap[2..7]);
    for offset in [0_u32, 3, 0x13, 0x1c, 0xffd, 0x1000, 0x1ffe, 0xffff, u32::MAX - 1, u32::MAX] {
        for length in [0, 1, 2, 3, 4, 7, 8, 64, 4096] {
            host.controller.read_register(offset, &mut vec![0; length]);
            if offset != 0x13 && offset != 0x1c {
                host.controller.write_register(offset, &vec![0xff; length]);
            }
        }
    }
}

#[test]
fn enabled_controller_is_ready_and_disabled_it_is_not_and_again() {
    let mut host = host();
    for _ in 0..3 {
        host.enable();
        host.create_pair(1, 16);
        let at = host.memory.take(4096);
        host.io_ok(nvm::read(1, 0, 8).with_prps(at, 0));
        host.disable();
        assert_eq!(host.status(), Csts::default());
    }
}

#[test]
fn settings_that_are_not_supported_are_fatal_until_disabled() {
    let right = Host::enabling();
    let cases: [(&str, Cc, Option<u32>); 8] = [
        ("a command set that is not there", right.with_css(6), None),
        ("pages of 128 MiB", right.with_mps(15), None),
        ("an arbitration of the vendor's", right.with_ams(7), None),
        ("a reserved arbitration", right.with_ams(3), None),
        ("submission entries of 128 bytes", right.with_iosqes(7), None),
        ("completion entries of 32 bytes", right.with_iocqes(5), None),
        ("an admin submission queue of one entry", right, Some(Aqa::default().with_acqs(31).0)),
        ("an admin completion queue of one entry", right, Some(Aqa::default().with_asqs(31).0)),
    ];
    for (what, cc, aqa) in cases {
        let mut host = host();
        host.place_admin_queues();
        if let Some(aqa) = aqa {
            host.write32(register::AQA, aqa);
        }
        host.write32(register::CC, cc.0);
        let status = host.await_status(|status| status.rdy() || status.cfs());
        assert!(status.cfs() && !status.rdy(), "{what}: {status:?}");
        host.write32(register::CC, 0);
        host.await_status(|status| !status.cfs() && !status.rdy());
        host.enable();
    }
}

#[test]
fn admin_queues_in_memory_that_is_not_there_are_fatal() {
    for which in [register::ASQ, register::ACQ] {
        let mut host = host();
        host.place_admin_queues();
        let past = host.memory.end() + (1 << 30);
        host.transport.write64(which, past).unwrap();
        host.write32(register::CC, Host::enabling().0);
        let status = host.await_status(|status| status.rdy() || status.cfs());
        assert!(status.cfs(), "{which:#x}: {status:?}");
        host.write32(register::CC, 0);
        host.await_status(|status| !status.cfs());
        host.enable();
    }
}

#[test]
fn larger_memory_pages_are_served() {
    let mut host = host();
    let mut base = host.memory.take(1 << 20);
    base = base.next_multiple_of(65536);
    host.write32(register::AQA, Aqa::default().with_asqs(31).with_acqs(31).0);
    host.transport.write64(register::ASQ, base).unwrap();
    host.transport.write64(register::ACQ, base + 65536).unwrap();
    host.write32(register::CC, Host::enabling().with_mps(4).0);
    let status = host.await_status(|status| status.rdy() || status.cfs());
    assert_eq!(status, Csts::default().with_rdy(true));
}

#[test]
fn shutdown_is_told_to_be_complete_until_a_reset() {
    for shn in [1, 2] {
        let (mut host, _) = Host::ready();
        host.write32(register::CC, Host::enabling().with_shn(shn).0);
        let status = host.await_status(|status| status.shst() == 2);
        assert!(status.rdy() && !status.cfs(), "{status:?}");
        host.write32(register::CC, Host::enabling().with_en(false).0);
        let status = host.await_status(|status| !status.rdy());
        assert_eq!(status.shst(), 0, "a reset ends the shutdown");
        host.enable();
        host.create_pair(1, 8);
    }
}

#[test]
fn function_reset_leaves_registers_as_at_the_beginning_and_no_command_in_flight() {
    let (mut host, _) = Host::ready();
    let target = host.memory.take(4096);
    for _ in 0..10 {
        host.submit(1, nvm::read(1, 0, 8).with_prps(target, 0));
    }
    host.transport.reset().unwrap();
    assert_eq!(host.status(), Csts::default());
    assert_eq!((host.read32(register::CC), host.read32(register::AQA)), (0, 0));
    assert_eq!(host.transport.read64(register::ASQ).unwrap(), 0);
    assert_eq!(host.transport.assist(1, Duration::ZERO), Assist::Idle);
    host.enable();
    host.create_pair(1, 8);
    host.io_ok(nvm::read(1, 0, 8).with_prps(target, 0));
}

#[test]
fn subsystem_reset_is_remembered_until_the_host_clears_it() {
    let (mut host, _) = Host::ready();
    host.write32(register::NSSR, 0x1234_5678);
    assert!(host.status().rdy(), "only the right word resets");
    host.write32(register::NSSR, register::NSSR_RESET);
    let status = host.await_status(|status| !status.rdy());
    assert!(status.nssro(), "{status:?}");
    host.write32(register::CSTS, Csts::default().with_nssro(true).0);
    assert!(!host.status().nssro());
    host.enable();
}

#[test]
fn doorbells_rung_before_a_queue_exists_are_not_seen_by_it() {
    let (mut host, _) = Host::ready();
    host.ring(2, false, 5);
    host.create_pair(2, 8);
    assert!(host.is_quiet(2));
    let at = host.memory.take(4096);
    assert_eq!(host.code(2, nvm::read(1, 0, 1).with_prps(at, 0)), Status::SUCCESS);
}

#[test]
fn memory_dropped_by_the_host_is_let_go_at_once() {
    let (host, _) = Host::ready();
    let arena = host.transport.arena(1 << 20).unwrap();
    let ranges = host.controller.address_space().len();
    drop(arena);
    assert_eq!(host.controller.address_space().len(), ranges - 1);
}

#[test]
fn threads_serve_without_being_assisted_and_end_with_the_controller() {
    let (mut host, _) = Host::ready_with(ControllerOptions { threads: 2, ..ControllerOptions::default() });
    assert_eq!(host.transport.assist(1, Duration::ZERO), Assist::NotNeeded);
    host.create_pair(2, 16);
    let at = host.memory.take(4096);
    for queue in [1, 2, 1, 2] {
        // Longer than the controller polls before it sleeps.
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(host.code(queue, nvm::read(1, 0, 8).with_prps(at, 0)), Status::SUCCESS);
    }
    host.controller.shut_down();
}
