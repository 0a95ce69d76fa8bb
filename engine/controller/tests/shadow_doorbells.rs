//! Doorbell Buffer Config (Base, section 5.2.5) with a thread that polls and sleeps.

mod host;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine_controller::ControllerOptions;
use engine_nvme_spec::{FeatureId, Select, Status, admin, dbbuf, nvm};
use host::Host;

#[test]
fn shadow_doorbells_are_looked_at_and_registers_rung_when_the_index_says_so() {
    let options = ControllerOptions { threads: 1, ..ControllerOptions::default() };
    let (mut host, _) = Host::ready_with(options);
    let (shadows, events) = (host.memory.take(4096), host.memory.take(4096));
    let misplaced = host.code(0, admin::doorbell_buffer_config(shadows + 8, events));
    assert!(misplaced == Status::INVALID_FIELD || misplaced == Status::PRP_OFFSET_INVALID, "{misplaced}");
    host.admin_ok(admin::doorbell_buffer_config(shadows, events));
    let at = host.memory.take(4096);
    let region = Arc::clone(host.memory.region());
    let (shadow, event) = (host.memory.place(shadows) + 8, host.memory.place(events) + 8);
    let word = |place: usize| region.u32_at(place).unwrap();
    let low = |value: u32| u16::try_from(value & 0xffff).unwrap();
    for round in 0..200_u32 {
        if round % 40 == 39 {
            // Long enough for the thread to sleep.
            std::thread::sleep(Duration::from_millis(20));
        }
        host.push(1, nvm::read(1, 0, 1).with_prps(at, 0));
        let tail = u32::from(host.pair(1).tail());
        let before = word(shadow).swap(tail, Ordering::SeqCst);
        if dbbuf::need_event(low(word(event).load(Ordering::SeqCst)), low(tail), low(before)) {
            host.ring(1, false, tail);
        }
        let start = std::time::Instant::now();
        let entry = loop {
            if let Some(entry) = host.pair(1).take() {
                break entry;
            }
            assert!(start.elapsed() < host::LIMIT, "round {round}");
            std::hint::spin_loop();
        };
        assert!(entry.status().is_success(), "{entry:?}");
        let head = u32::from(host.pair(1).head());
        word(shadow + 4).store(head, Ordering::SeqCst);
    }
}

#[test]
fn controller_that_does_not_offer_them_says_invalid_opcode() {
    let options = ControllerOptions { shadow_doorbells: false, ..ControllerOptions::default() };
    let (mut host, _) = Host::ready_with(options);
    let (shadows, events) = (host.memory.take(4096), host.memory.take(4096));
    let status = host.code(0, admin::doorbell_buffer_config(shadows, events));
    assert_eq!(status, Status::INVALID_OPCODE);
}

#[test]
fn admin_queue_is_served_by_register_or_by_shadow_whichever_the_host_writes() {
    for by_shadow in [false, true] {
        let options = ControllerOptions { threads: 1, ..ControllerOptions::default() };
        let (mut host, _) = Host::ready_with(options);
        let (shadows, events) = (host.memory.take(4096), host.memory.take(4096));
        host.admin_ok(admin::doorbell_buffer_config(shadows, events));
        let region = Arc::clone(host.memory.region());
        let (shadow, event) = (host.memory.place(shadows), host.memory.place(events));
        let word = |place: usize| region.u32_at(place).unwrap();
        for round in 0..100_u32 {
            // Two at a time, so that the second may be written before the index follows the first.
            for _ in 0..2 {
                host.push(0, admin::get_features(FeatureId::ARBITRATION, Select::CURRENT));
                let tail = u32::from(host.pair(0).tail());
                if by_shadow {
                    let before = word(shadow).swap(tail, Ordering::SeqCst);
                    let low = |value: u32| u16::try_from(value).unwrap();
                    let index = word(event).load(Ordering::SeqCst);
                    if dbbuf::need_event(low(index), low(tail), low(before)) {
                        host.ring(0, false, tail);
                    }
                } else {
                    host.ring(0, false, tail);
                }
            }
            for _ in 0..2 {
                let start = std::time::Instant::now();
                let entry = loop {
                    if let Some(entry) = host.pair(0).take() {
                        break entry;
                    }
                    assert!(start.elapsed() < host::LIMIT, "round {round}, by shadow: {by_shadow}");
                };
                assert!(entry.status().is_success(), "{entry:?}");
            }
            let head = u32::from(host.pair(0).head());
            if by_shadow {
                word(shadow + 4).store(head, Ordering::SeqCst);
            } else {
                host.ring(0, true, head);
            }
        }
    }
}
