//! What a controller tells without being asked: asynchronous events, interrupts, errors and counters.

mod host;

use std::time::Duration;

use engine_controller::ControllerOptions;
use engine_nvme_spec::{ErrorEntry, Event, FeatureId, LogPage, SmartLog, Status, admin, nvm, register};
use engine_transport::Transport;
use host::Host;
use zerocopy::FromBytes;

fn error_log(host: &mut Host, entries: usize) -> Vec<ErrorEntry> {
    let length = entries * 64;
    let at = host.memory.take(length);
    let sqe = admin::get_log_page(LogPage::ERROR, u32::MAX, 0, u32::try_from(length).unwrap(), false);
    host.admin_ok(sqe.with_prps(at, 0));
    let bytes = host.memory.read(at, length);
    bytes.chunks(64).map(|entry| ErrorEntry::read_from_bytes(entry).unwrap()).collect()
}

#[test]
fn doorbell_value_that_cannot_be_is_told_once_and_the_queue_goes_on() {
    let (mut host, _) = Host::ready();
    let cid = host.submit(0, admin::asynchronous_event_request());
    assert!(host.is_quiet(0));
    host.ring(1, false, 64);
    assert!(host.is_quiet(1));
    let entry = host.wait(0);
    assert_eq!(entry.cid.get(), cid);
    assert_eq!(Event::from_dword(entry.dw0.get()), Event::INVALID_DOORBELL_VALUE);
    assert_eq!(error_log(&mut host, 1)[0].sq_id.get(), u16::MAX, "no command is to blame");
    let at = host.memory.take(4096);
    host.io_ok(nvm::read(1, 0, 8).with_prps(at, 0));
}

#[test]
fn head_doorbell_past_the_tail_is_told() {
    let (mut host, _) = Host::ready();
    host.submit(0, admin::asynchronous_event_request());
    let at = host.memory.take(4096);
    host.ring(1, true, 9);
    host.submit(1, nvm::read(1, 0, 8).with_prps(at, 0));
    let mut seen = 0;
    while host.pair(1).take().is_none() && seen < 100 {
        host.transport.assist(1, Duration::ZERO);
        seen += 1;
    }
    let entry = host.wait(0);
    assert_eq!(Event::from_dword(entry.dw0.get()), Event::INVALID_DOORBELL_VALUE);
}

#[test]
fn doorbell_register_of_a_queue_that_is_not_there_is_told() {
    let (mut host, _) = Host::ready();
    host.submit(0, admin::asynchronous_event_request());
    host.write32(0x1000 + 4 * 2 * 7, 1);
    let entry = host.wait(0);
    assert_eq!(Event::from_dword(entry.dw0.get()), Event::INVALID_DOORBELL);
}

#[test]
fn event_request_that_is_aborted_is_answered_so() {
    let (mut host, _) = Host::ready();
    let cid = host.submit(0, admin::asynchronous_event_request());
    assert!(host.is_quiet(0));
    let abort = host.submit(0, admin::abort(0, cid));
    let (first, second) = (host.wait(0), host.wait(0));
    let status = |entry: &engine_nvme_spec::Cqe| Status(entry.status().0 & Status::CODE);
    assert_eq!((first.cid.get(), status(&first)), (cid, Status::ABORT_REQUESTED));
    assert_eq!((second.cid.get(), status(&second), second.dw0.get()), (abort, Status::SUCCESS, 0));
    assert_eq!(host.admin_ok(admin::abort(0, cid)), 1, "not there any more");
}

#[test]
fn failed_commands_are_in_the_error_log_newest_first() {
    let (mut host, _) = Host::ready();
    let at = host.memory.take(4096);
    let first = host.run(1, nvm::read(1, 1 << 40, 1).with_prps(at, 0));
    assert!(first.status().more() && first.status().do_not_retry());
    let second = host.run(1, nvm::read(7, 0, 1).with_prps(at, 0));
    let log = error_log(&mut host, 2);
    assert_eq!((log[0].cid, log[0].nsid.get()), (second.cid, 7));
    assert_eq!((log[1].cid, log[1].lba.get(), log[1].sq_id.get()), (first.cid, 1 << 40, 1));
    assert_eq!(log[0].error_count.get(), log[1].error_count.get() + 1);
    assert_eq!(log[1].status.get() >> 1 & Status::CODE, Status::LBA_OUT_OF_RANGE.0);
}

#[test]
fn reads_and_writes_are_counted_and_admin_commands_are_not() {
    let (mut host, _) = Host::ready();
    let at = host.memory.take(8192);
    for _ in 0..5 {
        host.io_ok(nvm::read(1, 0, 8).with_prps(at, 0));
    }
    for _ in 0..3 {
        host.io_ok(nvm::write(1, 0, 16).with_prps(at, at + 4096));
    }
    let page = host.memory.take(4096);
    host.admin_ok(admin::get_log_page(LogPage::SMART, u32::MAX, 0, 512, false).with_prps(page, 0));
    let log = SmartLog::read_from_bytes(&host.memory.read(page, 512)).unwrap();
    assert_eq!((log.host_reads.get(), log.host_writes.get()), (5, 3));
    assert_eq!((log.data_units_read.get(), log.data_units_written.get()), (1, 1));
}

#[test]
fn completions_interrupt_where_they_were_asked_to_and_masks_hold_them_back() {
    let (mut host, _) = Host::ready();
    host.create_pair_with(2, 16, 16, Some(3));
    let interrupt = host.transport.interrupt(3).unwrap();
    let at = host.memory.take(4096);
    let sqe = nvm::read(1, 0, 1).with_prps(at, 0);
    host.run(1, sqe);
    assert!(!interrupt.wait(Duration::ZERO).unwrap(), "another queue");
    host.run(2, sqe);
    assert!(interrupt.wait(Duration::ZERO).unwrap());
    host.write32(register::INTMS, 1 << 3);
    host.run(2, sqe);
    assert!(!interrupt.wait(Duration::ZERO).unwrap());
    assert_eq!(host.read32(register::INTMC), 1 << 3);
    host.write32(register::INTMC, 1 << 3);
    assert!(interrupt.wait(Duration::ZERO).unwrap());
}

#[test]
fn gathered_completions_interrupt_at_their_number_or_after_their_time() {
    let (mut host, _) = Host::ready_with(ControllerOptions::default());
    host.create_pair_with(2, 64, 64, Some(3));
    let interrupt = host.transport.interrupt(3).unwrap();
    // Four completions, or 20 milliseconds.
    host.admin_ok(admin::set_features(FeatureId::INTERRUPT_COALESCING, 200 << 8 | 3));
    let at = host.memory.take(4096);
    let sqe = nvm::read(1, 0, 1).with_prps(at, 0);
    for _ in 0..4 {
        host.push(2, sqe);
    }
    let tail = u32::from(host.pair(2).tail());
    host.ring(2, false, tail);
    for _ in 0..4 {
        host.wait(2);
    }
    assert!(interrupt.wait(Duration::ZERO).unwrap(), "four at once");
    host.run(2, sqe);
    assert!(!interrupt.wait(Duration::ZERO).unwrap(), "one alone waits");
    std::thread::sleep(Duration::from_millis(25));
    host.transport.assist(2, Duration::ZERO);
    assert!(interrupt.wait(Duration::ZERO).unwrap(), "its time is over");
}
