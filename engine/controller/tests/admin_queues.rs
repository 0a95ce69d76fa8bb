//! Making and deleting queues, and what there is wrong to say about that (Base, sections 5.2.1 to 5.2.4).

mod host;

use engine_controller::ControllerOptions;
use engine_nvme_spec::{AdminOpcode, FeatureId, Sqe, Status, admin, nvm};
use host::{Host, memory_subsystem};

fn host() -> Host {
    let options =
        ControllerOptions { queue_pairs: 4, queue_entries: 64, vectors: 3, ..ControllerOptions::default() };
    let mut host = Host::new(options, memory_subsystem(1 << 20).0);
    host.enable();
    host
}

#[test]
fn completion_queue_that_cannot_be_is_refused_for_the_right_reason() {
    let mut host = host();
    let at = host.memory.take(65536);
    let create =
        |queue, entries, address, vector| admin::create_completion_queue(queue, entries, address, vector);
    let cases = [
        ("the admin queue's number", create(0, 16, at, None), Status::INVALID_QUEUE_ID),
        ("a number beyond the last", create(5, 16, at, None), Status::INVALID_QUEUE_ID),
        ("a number of its own kind", create(u16::MAX, 16, at, None), Status::INVALID_QUEUE_ID),
        ("one entry", create(1, 1, at, None), Status::INVALID_QUEUE_SIZE),
        ("more entries than CAP.MQES", create(1, 65, at, None), Status::INVALID_QUEUE_SIZE),
        ("an address within a page", create(1, 16, at + 64, None), Status::PRP_OFFSET_INVALID),
        ("a vector that is not there", create(1, 16, at, Some(3)), Status::INVALID_INTERRUPT_VECTOR),
    ];
    for (what, sqe, status) in cases {
        assert_eq!(host.code(0, sqe), status, "{what}");
    }
    let scattered = Sqe { cdw11: 0.into(), ..create(1, 16, at, None) };
    assert_eq!(host.code(0, scattered), Status::INVALID_FIELD, "not contiguous");
    host.admin_ok(create(1, 16, at, Some(2)));
    assert_eq!(host.code(0, create(1, 16, at, None)), Status::INVALID_QUEUE_ID, "in use");
}

#[test]
fn submission_queue_that_cannot_be_is_refused_for_the_right_reason() {
    let mut host = host();
    let at = host.memory.take(65536);
    host.admin_ok(admin::create_completion_queue(1, 16, at, None));
    let create = |queue, entries, address, completions| {
        admin::create_submission_queue(queue, entries, address, completions, 0)
    };
    let cases = [
        ("the admin queue's number", create(0, 16, at, 1), Status::INVALID_QUEUE_ID),
        ("a number beyond the last", create(5, 16, at, 1), Status::INVALID_QUEUE_ID),
        ("one entry", create(1, 1, at, 1), Status::INVALID_QUEUE_SIZE),
        ("more entries than CAP.MQES", create(1, 65, at, 1), Status::INVALID_QUEUE_SIZE),
        ("the admin completion queue", create(1, 16, at, 0), Status::INVALID_QUEUE_ID),
        ("a completion queue that was not made", create(1, 16, at, 2), Status::COMPLETION_QUEUE_INVALID),
        ("a completion queue that cannot be", create(1, 16, at, 5), Status::INVALID_QUEUE_ID),
        ("an address within a page", create(1, 16, at + 8, 1), Status::PRP_OFFSET_INVALID),
    ];
    for (what, sqe, status) in cases {
        assert_eq!(host.code(0, sqe), status, "{what}");
    }
    let scattered = Sqe { cdw11: (1 << 16).into(), ..create(1, 16, at, 1) };
    assert_eq!(host.code(0, scattered), Status::INVALID_FIELD, "not contiguous");
    host.admin_ok(create(1, 16, at + 4096, 1));
    assert_eq!(host.code(0, create(1, 16, at, 1)), Status::INVALID_QUEUE_ID, "in use");
}

#[test]
fn deletion_of_queues_keeps_the_order_and_lets_them_be_made_again() {
    let mut host = host();
    for _ in 0..3 {
        host.create_pair(1, 16);
        let at = host.memory.take(4096);
        host.io_ok(nvm::read(1, 0, 1).with_prps(at, 0));
        assert_eq!(host.code(0, admin::delete_completion_queue(1)), Status::INVALID_QUEUE_DELETION);
        host.admin_ok(admin::delete_submission_queue(1));
        host.admin_ok(admin::delete_completion_queue(1));
        for queue in [0, 1, 2, 5, u16::MAX] {
            assert_eq!(host.code(0, admin::delete_submission_queue(queue)), Status::INVALID_QUEUE_ID);
            assert_eq!(host.code(0, admin::delete_completion_queue(queue)), Status::INVALID_QUEUE_ID);
        }
    }
}

#[test]
fn two_submission_queues_share_a_completion_queue() {
    let mut host = host();
    host.create_pair(1, 16);
    let second = host.memory.take(16 * 64);
    host.admin_ok(admin::create_submission_queue(2, 16, second, 1, 1));
    let at = host.memory.take(4096);
    let sqe = Sqe { cid: 77.into(), ..nvm::read(1, 0, 1).with_prps(at, 0) };
    let place = host.memory.place(second);
    let words = host.memory.region().u64s_at(place, 8).unwrap();
    for (word, value) in words.iter().zip(sqe.to_words()) {
        word.store(value, std::sync::atomic::Ordering::Relaxed);
    }
    host.ring(2, false, 1);
    let entry = host.wait(1);
    assert_eq!((entry.cid.get(), entry.sq_id.get(), entry.sq_head.get()), (77, 2, 1));
    host.io_ok(nvm::read(1, 0, 1).with_prps(at, 0));
    host.admin_ok(admin::delete_submission_queue(1));
    assert_eq!(host.code(0, admin::delete_completion_queue(1)), Status::INVALID_QUEUE_DELETION, "2 is left");
    host.admin_ok(admin::delete_submission_queue(2));
    host.admin_ok(admin::delete_completion_queue(1));
}

#[test]
fn queues_are_granted_up_to_what_there_is() {
    let mut host = host();
    let granted = host.admin_ok(admin::set_features(FeatureId::NUMBER_OF_QUEUES, 0x0001_0001));
    assert_eq!(granted, 0x0001_0001);
    let sqe = admin::set_features(FeatureId::NUMBER_OF_QUEUES, 0x00ff_00ff);
    assert_eq!(host.admin_ok(sqe), 0x0003_0003, "four of each");
    assert_eq!(host.code(0, admin::set_features(FeatureId::NUMBER_OF_QUEUES, 0xffff)), Status::INVALID_FIELD);
}

#[test]
fn admin_commands_that_there_are_not_are_invalid_opcodes() {
    let mut host = host();
    for opcode in [0x03, 0x07, 0x0b, 0x0f, 0x7f, 0xbf, 0xc0, 0xff] {
        assert_eq!(host.code(0, Sqe::new(opcode, 0)), Status::INVALID_OPCODE, "{opcode:#x}");
    }
    for opcode in [AdminOpcode::FIRMWARE_COMMIT, AdminOpcode::SECURITY_SEND, AdminOpcode::DEVICE_SELF_TEST] {
        assert_eq!(host.code(0, Sqe::new(opcode.0, 0)), Status::INVALID_OPCODE, "{opcode:?}");
    }
}

#[test]
fn completions_wait_while_their_queue_is_full_and_none_is_lost() {
    let mut host = host();
    host.create_pair_with(1, 64, 4, None);
    let at = host.memory.take(4096);
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(host.push(1, nvm::read(1, 0, 1).with_prps(at, 0)));
    }
    let tail = host.pair(1).tail();
    host.ring(1, false, tail.into());
    // Three fit; nobody takes them.
    for _ in 0..50 {
        engine_transport::Transport::assist(&*host.transport, 1, std::time::Duration::ZERO);
    }
    let mut seen = Vec::new();
    while let Some(entry) = host.pair(1).take() {
        seen.push(entry.cid.get());
    }
    assert_eq!(seen, sent[..3]);
    let head = host.pair(1).head();
    host.ring(1, true, head.into());
    while seen.len() < sent.len() {
        seen.push(host.wait(1).cid.get());
    }
    assert_eq!(seen, sent);
    assert!(host.is_quiet(1));
}

#[test]
fn head_of_the_submission_queue_is_told_and_wraps() {
    let mut host = host();
    host.create_pair(1, 4);
    let at = host.memory.take(4096);
    let heads: Vec<u16> =
        (0..9).map(|_| host.run(1, nvm::read(1, 0, 1).with_prps(at, 0)).sq_head.get()).collect();
    assert_eq!(heads, [1, 2, 3, 0, 1, 2, 3, 0, 1]);
}
