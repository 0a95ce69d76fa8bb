//! Every fault of the builder, as a host sees it.

mod host;

use std::time::{Duration, Instant};

use engine_controller::{ControllerOptions, Effect, Fault, Faults};
use engine_nvme_spec::{AdminOpcode, Csts, NvmOpcode, Sqe, Status, admin, nvm, register};
use engine_transport::Transport;
use host::{Host, pattern};

fn host(faults: &Faults) -> Host {
    let options = ControllerOptions { faults: Some(faults.clone()), ..ControllerOptions::default() };
    let (host, backing) = Host::ready_with(options);
    backing.region().write(0, &pattern(1, 65536)).unwrap();
    host
}

fn read(host: &mut Host) -> Sqe {
    let at = host.memory.take(4096);
    nvm::read(1, 0, 8).with_prps(at, 0)
}

#[test]
fn dropped_command_is_never_answered_and_others_are() {
    let faults = Faults::default();
    let mut host = host(&faults);
    faults.add(Fault::io(Effect::Drop).opcode(NvmOpcode::READ.0).after(1));
    let sqe = read(&mut host);
    let first = host.submit(1, sqe);
    host.submit(1, sqe);
    let third = host.submit(1, sqe);
    assert_eq!((host.wait(1).cid.get(), host.wait(1).cid.get()), (first, third));
    assert!(host.is_quiet(1));
}

#[test]
fn delayed_command_is_answered_after_its_time_and_can_be_aborted_before() {
    let faults = Faults::default();
    let mut host = host(&faults);
    let sqe = read(&mut host);
    faults.add(Fault::io(Effect::Delay(Duration::from_millis(60))));
    let start = Instant::now();
    assert_eq!(host.code(1, sqe), Status::SUCCESS);
    assert!(start.elapsed() >= Duration::from_millis(60));
    faults.add(Fault::io(Effect::Delay(Duration::from_secs(3600))));
    let cid = host.submit(1, sqe);
    assert!(host.is_quiet(1));
    assert_eq!(host.admin_ok(admin::abort(1, cid)), 0, "aborted");
    let entry = host.wait(1);
    assert_eq!((entry.cid.get(), entry.status().0 & Status::CODE), (cid, Status::ABORT_REQUESTED.0));
    assert_eq!(host.admin_ok(admin::abort(1, cid)), 1, "not there any more");
}

#[test]
fn delayed_commands_do_not_overrun_a_small_completion_queue() {
    let faults = Faults::default();
    let mut host = host(&faults);
    host.create_pair_with(2, 64, 4, None);
    faults.add(Fault::io(Effect::Delay(Duration::from_millis(10))).times(40));
    let sqe = read(&mut host);
    let sent: Vec<u16> = (0..40).map(|_| host.submit(2, sqe)).collect();
    let mut seen: Vec<u16> = sent.iter().map(|_| host.wait(2).cid.get()).collect();
    seen.sort_unstable();
    assert_eq!(seen, sent);
}

#[test]
fn reordered_answer_comes_after_the_next() {
    let faults = Faults::default();
    let mut host = host(&faults);
    faults.add(Fault::io(Effect::Reorder));
    let sqe = read(&mut host);
    let (first, second) = (host.submit(1, sqe), host.submit(1, sqe));
    assert_eq!((host.wait(1).cid.get(), host.wait(1).cid.get()), (second, first));
}

#[test]
fn failed_command_has_its_status_and_is_not_carried_out() {
    let faults = Faults::default();
    let mut host = host(&faults);
    let status = Status::WRITE_FAULT.with_retry_delay(1);
    faults.add(Fault::io(Effect::Fail(status)).opcode(NvmOpcode::WRITE.0));
    let at = host.memory.with(&pattern(2, 4096));
    let entry = host.run(1, nvm::write(1, 0, 8).with_prps(at, 0));
    assert!(entry.status().is(status) && !entry.status().do_not_retry(), "{}", entry.status());
    let sqe = nvm::read(1, 0, 8).with_prps(at, 0);
    host.io_ok(sqe);
    assert!(host.memory.read(at, 4096) == pattern(1, 65536)[..4096]);
}

#[test]
fn corrupted_read_differs_in_one_byte() {
    let faults = Faults::default();
    let mut host = host(&faults);
    faults.add(Fault::io(Effect::Corrupt));
    let at = host.memory.take(4096);
    host.io_ok(nvm::read(1, 0, 8).with_prps(at, 0));
    let bytes = host.memory.read(at, 4096);
    let wrong = bytes.iter().zip(&pattern(1, 65536)).filter(|(a, b)| a != b).count();
    assert_eq!(wrong, 1);
}

#[test]
fn duplicate_and_wrong_answers_are_what_was_asked_for() {
    let faults = Faults::default();
    let mut host = host(&faults);
    let sqe = read(&mut host);
    faults.add(Fault::io(Effect::Duplicate));
    let cid = host.submit(1, sqe);
    assert_eq!((host.wait(1).cid.get(), host.wait(1).cid.get()), (cid, cid));
    faults.add(Fault::io(Effect::WrongCommand(0xbeef)));
    faults.add(Fault::io(Effect::WrongQueue(9)));
    faults.add(Fault::io(Effect::WrongHead(63)));
    for _ in 0..3 {
        host.submit(1, sqe);
    }
    let entries = [host.wait(1), host.wait(1), host.wait(1)];
    assert_eq!(entries[0].cid.get(), 0xbeef);
    assert_eq!(entries[1].sq_id.get(), 9);
    assert_eq!(entries[2].sq_head.get(), 63);
}

#[test]
fn wrong_phase_is_not_seen_as_an_answer() {
    let faults = Faults::default();
    let mut host = host(&faults);
    let sqe = read(&mut host);
    faults.add(Fault::io(Effect::WrongPhase));
    let cid = host.submit(1, sqe);
    assert!(host.is_quiet(1));
    let entry = host.pair(1).peek();
    assert_eq!((entry.cid.get(), entry.phase()), (cid, false));
}

#[test]
fn admin_faults_hit_admin_commands_only() {
    let faults = Faults::default();
    let mut host = host(&faults);
    faults.add(Fault::admin(Effect::Fail(Status::INTERNAL_ERROR)).opcode(AdminOpcode::IDENTIFY.0));
    let sqe = read(&mut host);
    host.io_ok(sqe);
    let at = host.memory.take(4096);
    let identify = admin::identify(engine_nvme_spec::identify::Cns::CONTROLLER, 0).with_prps(at, 0);
    assert_eq!(host.code(0, identify), Status::INTERNAL_ERROR);
    assert_eq!(host.code(0, identify), Status::SUCCESS);
}

#[test]
fn stuck_controller_answers_nothing_until_it_is_healed() {
    let faults = Faults::default();
    let mut host = host(&faults);
    faults.stick(true);
    let sqe = read(&mut host);
    let cid = host.submit(1, sqe);
    assert!(host.is_quiet(1));
    faults.heal();
    assert_eq!(host.wait(1).cid.get(), cid);
}

#[test]
fn broken_controller_says_so_until_it_is_reset() {
    let faults = Faults::default();
    let mut host = host(&faults);
    faults.break_down();
    assert!(host.status().cfs());
    let sqe = read(&mut host);
    host.submit(1, sqe);
    assert!(host.is_quiet(1));
    host.disable();
    host.enable();
    host.create_pair(1, 16);
    host.io_ok(sqe);
}

#[test]
fn controller_that_never_gets_ready_can_be_tried_again() {
    let faults = Faults::default();
    let mut host = host(&faults);
    host.disable();
    faults.never_ready(true);
    host.place_admin_queues();
    host.write32(register::CC, Host::enabling().0);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!host.status().rdy() && !host.status().cfs());
    faults.never_ready(false);
    host.write32(register::CC, 0);
    host.enable();
}

#[test]
fn vanished_controller_reads_as_ones_and_does_nothing_for_ever() {
    let faults = Faults::default();
    let mut host = host(&faults);
    let sqe = read(&mut host);
    faults.vanish();
    assert_eq!(host.status(), Csts::GONE);
    assert_eq!(host.transport.read64(register::CAP).unwrap(), u64::MAX);
    host.submit(1, sqe);
    assert!(host.is_quiet(1));
    host.write32(register::CC, 0);
    assert_eq!(host.status(), Csts::GONE);
    faults.heal();
    assert_eq!(host.status(), Csts::GONE);
}
