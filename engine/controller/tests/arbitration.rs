//! Weighted round robin with an urgent class (Base, section 3.4.4.2).

mod host;

use std::time::Duration;

use engine_nvme_spec::{Csts, FeatureId, admin, nvm, register};
use engine_transport::Transport;
use host::ring::Pair;
use host::{Host, memory_subsystem};

/// Queues of each class, by their numbers; all complete to queue 1.
const URGENT: u16 = 1;
const HIGH: u16 = 2;
const MEDIUM: u16 = 3;
const LOW: u16 = 4;

/// A controller whose rounds have 4 commands of the high class, 2 of the medium and 1 of the low one.
fn weighted_host() -> Host {
    let (subsystem, _) = memory_subsystem(1 << 20);
    let mut host = Host::new(engine_controller::ControllerOptions::default(), subsystem);
    host.place_admin_queues();
    host.write32(register::CC, Host::enabling().with_ams(1).0);
    host.await_status(Csts::rdy);
    // Weights are zero-based; no limit to bursts.
    host.admin_ok(admin::set_features(FeatureId::ARBITRATION, 3 << 24 | 1 << 16 | 7));
    // The lowest class first: what counts is the class and not the age.
    for queue in [URGENT, LOW, MEDIUM, HIGH] {
        let pair = Pair::new(&mut host.memory, queue, 64, 256);
        if queue == URGENT {
            host.admin_ok(admin::create_completion_queue(1, 256, pair.completions_at(), None));
        }
        let class = u8::try_from(queue - 1).unwrap();
        host.admin_ok(admin::create_submission_queue(queue, 64, pair.submissions_at(), 1, class));
        host.put(queue, Some(pair));
    }
    host
}

/// Puts `count` reads into a queue.
fn submit(host: &mut Host, queue: u16, count: u16) {
    let at = host.memory.take(512);
    for _ in 0..count {
        host.push(queue, nvm::read(1, 0, 1).with_prps(at, 0));
    }
    let tail = host.pair(queue).tail();
    host.ring(queue, false, tail.into());
}

/// Lets the controller work for one round; from which queues commands were completed, and how many of each in turn.
fn round(host: &mut Host) -> Vec<(u16, usize)> {
    host.transport.assist(1, Duration::ZERO);
    let mut queues = Vec::new();
    while let Some(entry) = host.pair(1).take() {
        queues.push(entry.sq_id.get());
    }
    let head = host.pair(1).head();
    host.ring(1, true, head.into());
    queues.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

#[test]
fn classes_have_commands_by_their_weights_and_the_urgent_one_comes_first() {
    let mut host = weighted_host();
    for queue in [LOW, MEDIUM, HIGH] {
        submit(&mut host, queue, 9);
    }
    submit(&mut host, URGENT, 11);
    assert_eq!(round(&mut host), [(URGENT, 11), (HIGH, 4), (MEDIUM, 2), (LOW, 1)]);
    assert_eq!(round(&mut host), [(HIGH, 4), (MEDIUM, 2), (LOW, 1)]);
    submit(&mut host, URGENT, 2);
    assert_eq!(round(&mut host), [(URGENT, 2), (HIGH, 1), (MEDIUM, 2), (LOW, 1)]);
    assert_eq!(round(&mut host), [(MEDIUM, 2), (LOW, 1)]);
    assert_eq!(round(&mut host), [(MEDIUM, 1), (LOW, 1)]);
    for left in (0..4).rev() {
        assert_eq!(round(&mut host), [(LOW, 1)], "{left} are left");
    }
    assert_eq!(round(&mut host), []);
}

#[test]
fn class_whose_weight_is_changed_has_as_many_from_the_next_round_on() {
    let mut host = weighted_host();
    submit(&mut host, HIGH, 20);
    submit(&mut host, LOW, 20);
    assert_eq!(round(&mut host), [(HIGH, 4), (LOW, 1)]);
    host.admin_ok(admin::set_features(FeatureId::ARBITRATION, 1 << 24 | 4 << 8 | 7));
    assert_eq!(round(&mut host), [(HIGH, 2), (LOW, 5)]);
}
