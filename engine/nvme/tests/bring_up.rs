//! Controllers that cannot be used are refused with one clear error, and in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::BlockDevice;
use engine_nvme::testing::{Answer, Mock, MockOptions};
use engine_nvme::{DriverError, DriverOptions, Status, open};

const IDENTIFY: u8 = 6;
const SET_FEATURES: u8 = 9;

fn options() -> DriverOptions {
    DriverOptions { admin_timeout: Duration::from_millis(100), ..DriverOptions::default() }
}

fn good() -> MockOptions {
    MockOptions { disk: vec![7; 1 << 16], ..MockOptions::default() }
}

/// What opening it fails with, in words.
fn refusal(mock: &Arc<Mock>) -> String {
    let start = Instant::now();
    let error = open(mock.clone(), options()).map(|device| device.info().clone()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(3), "{error} after {:?}", start.elapsed());
    let text = engine_block::OpenError::from(error).to_string();
    assert!(text.contains("mock"), "the device is named: {text}");
    text
}

#[test]
fn controller_that_does_everything_right_says_what_it_is() {
    let mock = Mock::new(MockOptions { sgl: true, shadow_doorbells: true, ..good() });
    let device = open(mock, options()).unwrap();
    let info = device.info();
    assert_eq!((info.size, info.logical_block, info.max_transfer), (1 << 16, 512, 128 << 10));
    assert_eq!(
        info.path,
        "user-space NVMe driver: Mock controller (NVMe 2.1, namespace 1), 8 queue pairs, SGL, shadow doorbells"
    );
    assert_eq!(device.controller().facts().serial, "MOCK-1");
}

#[test]
fn registers_that_no_controller_has_are_refused() {
    for (capabilities, expected) in [
        (u64::MAX, "gone"),
        (1 << 37, "one entry"),
        (1023 | 1 << 24, "no NVM command set"),
        (1023 | 1 << 24 | 1 << 37 | 5 << 48 | 2 << 52, "larger than its largest"),
        (1023 | 1 << 24 | 1 << 37 | 9 << 48 | 9 << 52, "64 KiB is the most"),
    ] {
        let text = refusal(&Mock::new(MockOptions { capabilities, ..good() }));
        assert!(text.contains(expected), "{capabilities:#x}: {text}");
    }
}

#[test]
fn lies_in_identify_are_refused() {
    let huge = u64::MAX.to_le_bytes();
    let lies: [(u8, usize, &[u8], &str); 13] = [
        (1, 512, &[0x55], "SQES"),
        (1, 512, &[0x77], "SQES"),
        (1, 513, &[0x33], "CQES"),
        (0, 0, &[0; 8], "no blocks"),
        (0, 0, &huge, "more than can be addressed"),
        (0, 26, &[5], "LBA format 5"),
        (0, 128, &[8, 0], "metadata"),
        (0, 29, &[1], "protection information"),
        (0, 130, &[8], "2^8 bytes"),
        (0, 130, &[0], "2^0 bytes"),
        (0, 130, &[63], "2^63 bytes"),
        (2, 0, &[0; 4], "no active namespace"),
        (2, 0, &[9, 0, 0, 0, 3, 0, 0, 0], "does not rise"),
    ];
    for (cns, offset, bytes, expected) in lies {
        let mock = Mock::new(good());
        mock.lie(cns, offset, bytes);
        let text = refusal(&mock);
        assert!(text.contains(expected), "{bytes:?} at {offset} of {cns}: {text}");
        assert_eq!((mock.ranges(), mock.stray()), (0, 0), "{text}");
    }
}

#[test]
fn namespace_list_without_an_end_is_refused() {
    let mock = Mock::new(good());
    let full: Vec<u8> = (1..=1024_u32).flat_map(u32::to_le_bytes).collect();
    mock.lie(2, 0, &full);
    assert!(refusal(&mock).contains("does not rise"));
}

#[test]
fn namespace_that_is_not_there_is_refused() {
    let wanted = DriverOptions { namespace: Some(3), ..options() };
    let error = open(Mock::new(good()), wanted).unwrap_err();
    assert!(matches!(error, DriverError::Namespace { namespace: 3, .. }), "{error}");
}

#[test]
fn blocks_longer_than_one_command_moves_are_refused() {
    let mock = Mock::new(MockOptions { block_shift: 14, max_transfer_pages: 1, ..good() });
    assert!(refusal(&mock).contains("longer than the controller moves at once"));
}

#[test]
fn no_queues_granted_is_one_clear_error() {
    let text = refusal(&Mock::new(MockOptions { queues: 0, ..good() }));
    assert!(text.contains("grants no I/O queue"), "{text}");
}

#[test]
fn more_queues_granted_than_asked_for_are_not_used() {
    let mock = Mock::new(good());
    mock.script(|asked| match (asked.opcode(), asked.lba() & 0xff) {
        (SET_FEATURES, 7) => Answer::With(0xffff_ffff),
        _ => Answer::Right,
    });
    let device = open(mock, options()).unwrap();
    assert_eq!(device.controller().queues(), options().queues);
}

#[test]
fn controller_that_never_becomes_ready_is_refused_in_time() {
    let mock = Mock::new(good());
    mock.freeze();
    let text = refusal(&mock);
    assert!(text.contains("did not become ready within 500ms"), "{text}");
}

#[test]
fn controller_that_fails_while_it_becomes_ready_is_refused() {
    let mock = Mock::new(good());
    mock.fail(true);
    assert!(refusal(&mock).contains("fatal status"));
}

#[test]
fn admin_command_that_is_not_answered_is_told() {
    let mock = Mock::new(good());
    mock.script(|asked| if asked.opcode() == IDENTIFY { Answer::Never } else { Answer::Right });
    let text = refusal(&mock);
    assert!(text.contains("did not answer an admin command within 100ms"), "{text}");
    assert_eq!(mock.ranges(), 0, "it was stopped, so that its memory could be freed");
}

#[test]
fn admin_command_that_fails_is_told_with_its_status() {
    let mock = Mock::new(good());
    mock.script(|asked| match asked.opcode() {
        IDENTIFY => Answer::Status(Status(0x4006), 0),
        _ => Answer::Right,
    });
    let text = refusal(&mock);
    assert!(text.contains("Internal Error (type 0, code 06h, do not retry)"), "{text}");
}

#[test]
fn controller_that_runs_already_is_stopped_first() {
    let mock = Mock::new(good());
    let first = open(mock.clone(), options()).unwrap();
    // Another driver left it like this: the first one's queues are gone when the second takes over.
    let second = open(mock.clone(), options()).unwrap();
    second.read_at(0, &mut [0; 512]).unwrap();
    assert_eq!(mock.starts(), 2);
    drop((second, first));
}
