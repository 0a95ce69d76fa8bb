//! Histories that no files can have, each with what is wrong about it.
#![allow(missing_docs, reason = "tests are documented by their names")]

use model::{Act, History, Record, Run, Seen, Stamp, Way, WriteId};

const FILE: u32 = 0x10_0001;
const OTHER: u32 = 0x10_0002;
const A: WriteId = WriteId(1);
const B: WriteId = WriteId(2);

fn at(begin: u64, file: u32, act: Act) -> Record {
    Record { actor: 0, file, begin, end: begin + 5, certain: true, act }
}

fn write(id: WriteId, offset: u64, length: u64) -> Act {
    Act::Write { way: Way::Buffered, id, offset, length }
}

/// A read of `length` bytes from the start on, with these runs.
fn read(length: u64, runs: &[(u64, u64, Seen)]) -> Act {
    let runs = runs.iter().map(|&(at, length, seen)| Run { at, length, seen }).collect();
    Act::Read { way: Way::Queue, offset: 0, length, runs }
}

/// The first complaint, or nothing.
fn complaint(records: &[Record]) -> String {
    let (violations, _) = History::new(records).violations(10);
    violations.first().map_or_else(String::new, |violation| format!("{}: {}", violation.place, violation.why))
}

#[test]
fn what_was_written_is_read() {
    let history = [
        at(10, FILE, write(A, 0, 4096)),
        at(20, FILE, write(B, 1024, 512)),
        at(
            30,
            FILE,
            read(
                8192,
                &[(0, 1024, Seen::Of(A, 0)), (1024, 512, Seen::Of(B, 0)), (1536, 2560, Seen::Of(A, 192))],
            ),
        ),
        at(40, FILE, Act::Size { size: 4096 }),
    ];
    assert_eq!(complaint(&history), "");
}

#[test]
fn stale_bytes_are_found_to_the_cell() {
    let history = [
        at(10, FILE, write(A, 0, 4096)),
        at(20, FILE, write(B, 1024, 64)),
        at(30, FILE, read(4096, &[(0, 4096, Seen::Of(A, 0))])),
    ];
    assert!(complaint(&history).starts_with("file 100001, byte 1024: "), "{}", complaint(&history));
}

#[test]
fn another_files_bytes_are_found() {
    let history = [
        at(10, FILE, write(A, 0, 4096)),
        at(20, OTHER, write(B, 0, 4096)),
        at(30, FILE, read(4096, &[(0, 2048, Seen::Of(A, 0)), (2048, 2048, Seen::Of(B, 256))])),
    ];
    let found = complaint(&history);
    assert!(found.contains("byte 2048") && found.ends_with("to file 100002, byte 2048"), "{found}");
}

#[test]
fn own_bytes_at_another_place_are_found() {
    let history = [
        at(10, FILE, write(A, 0, 4096)),
        at(30, FILE, read(4096, &[(0, 2048, Seen::Of(A, 0)), (2048, 2048, Seen::Of(A, 0))])),
    ];
    assert!(complaint(&history).contains("byte 2048"), "{}", complaint(&history));
}

#[test]
fn poison_is_found() {
    let poison = Stamp(u64::MAX).word(WriteId::POISON, 5);
    let seen = Stamp(1).read(poison);
    let history = [
        at(10, FILE, Act::Cut { size: 4096 }),
        at(30, FILE, read(4096, &[(0, 512, Seen::Zeros), (512, 512, seen), (1024, 3072, Seen::Zeros)])),
    ];
    let found = complaint(&history);
    assert!(found.contains("byte 512") && found.contains("free space was filled with"), "{found}");
}

#[test]
fn bytes_that_were_cut_off_are_found() {
    let history = [
        at(10, FILE, write(A, 0, 4096)),
        at(20, FILE, Act::Cut { size: 1024 }),
        at(30, FILE, read(4096, &[(0, 4096, Seen::Of(A, 0))])),
    ];
    assert!(complaint(&history).contains("cut before"), "{}", complaint(&history));
    let longer =
        [history[0].clone(), history[1].clone(), at(25, FILE, Act::Cut { size: 4096 }), history[2].clone()];
    assert!(complaint(&longer).contains("byte 1024"), "{}", complaint(&longer));
}

#[test]
fn end_that_is_too_early_or_too_late_is_found() {
    let write = at(10, FILE, write(A, 0, 4096));
    let early = [write.clone(), at(30, FILE, Act::Size { size: 0 })];
    assert!(complaint(&early).ends_with("the file had been made longer before"), "{}", complaint(&early));
    let late = [write.clone(), at(30, FILE, Act::Size { size: 8192 })];
    assert!(complaint(&late).ends_with("the file never was that long"), "{}", complaint(&late));
    let meanwhile = [write, at(12, FILE, Act::Size { size: 0 })];
    assert_eq!(complaint(&meanwhile), "");
}

#[test]
fn name_that_leads_to_a_file_that_was_replaced_is_found() {
    let history = [
        at(10, FILE, Act::Bind { name: 3 }),
        at(20, OTHER, Act::Bind { name: 3 }),
        at(30, FILE, Act::Look { name: 3 }),
    ];
    assert!(complaint(&history).starts_with("name 3: "), "{}", complaint(&history));
    assert_eq!(complaint(&history[..2]), "");
    let gone = [history[0].clone(), at(20, 0, Act::Unbind { name: 3 }), history[2].clone()];
    assert!(complaint(&gone).starts_with("name 3: "), "{}", complaint(&gone));
}

#[test]
fn copied_bytes_are_accepted_where_they_were_copied_to_and_nowhere_else() {
    let copy = Act::Copy { from: OTHER, from_offset: 1024, offset: 512, length: 512 };
    let history = [
        at(10, OTHER, write(B, 0, 4096)),
        at(20, FILE, copy),
        at(30, FILE, read(4096, &[(0, 512, Seen::Zeros), (512, 512, Seen::Of(B, 128))])),
    ];
    assert_eq!(complaint(&history), "");
    let shifted = [
        history[0].clone(),
        history[1].clone(),
        at(30, FILE, read(4096, &[(0, 512, Seen::Zeros), (512, 512, Seen::Of(B, 136))])),
    ];
    assert!(complaint(&shifted).contains("no copy"), "{}", complaint(&shifted));
}

#[test]
fn error_that_nobody_expects_is_a_complaint() {
    let history = [at(10, FILE, Act::Failed { what: "read: Input/output error".into() })];
    assert_eq!(complaint(&history), "file 100001: read: Input/output error");
}
