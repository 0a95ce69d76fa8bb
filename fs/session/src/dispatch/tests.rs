//! Requests byte by byte as the kernel makes them, and bytes that no kernel would send.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::{FromBytes, FromZeros, Immutable};

use super::*;
use crate::attributes::{Attributes, Timed};
use crate::negotiation::{Agreement, Offer};
use crate::wire::{AttrOut, EntryOut, OutHeader, StatxOut};

/// A file system that says what it was asked.
#[derive(Default)]
struct Told {
    asked: Mutex<Vec<String>>,
    value: Vec<u8>,
}

impl Told {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn timed(node: u64) -> Timed {
    let born = Some(Time { seconds: -2, nanoseconds: 5 });
    Timed {
        attributes: Attributes { ino: node, mode: 0o100_640, born, ..Attributes::default() },
        ttl: Duration::from_millis(1500),
    }
}

fn made(node: u64) -> Entry {
    Entry { node, attributes: timed(node).attributes, ..Entry::absent(Duration::from_secs(3)) }
}

impl Filesystem for Told {
    fn agree(&self, _offer: &Offer) -> Agreement {
        Agreement::default()
    }

    fn lookup(&self, asker: &Asker, parent: u64, name: &OsStr) -> Answer<Entry> {
        self.note(format!("lookup {parent} {name:?} by {}:{} {}", asker.uid, asker.gid, asker.pid));
        if name == "panics" { panic!("as asked") } else { Ok(made(7)) }
    }

    fn forget(&self, node: u64, lookups: u64) {
        self.note(format!("forget {node} {lookups}"));
    }

    fn attributes(&self, _asker: &Asker, node: u64, handle: Option<u64>) -> Answer<Timed> {
        self.note(format!("attributes {node} {handle:?}"));
        Ok(timed(node))
    }

    fn set_attributes(&self, _asker: &Asker, node: u64, change: &SetAttributes) -> Answer<Timed> {
        self.note(format!("set {node} {change:?}"));
        Ok(timed(node))
    }

    fn open(&self, _asker: &Asker, node: u64, flags: i32) -> Answer<Opened> {
        self.note(format!("open {node} {flags}"));
        Err(Errno::ACCESS)
    }

    fn create_unnamed(&self, _asker: &Asker, file: &MakeFile<'_>, flags: i32) -> Answer<(Entry, Opened)> {
        self.note(format!("unnamed {file:?} {flags}"));
        Ok((made(8), Opened { handle: 9, ..Opened::default() }))
    }

    fn read(&self, read: &Read, data: &mut Data<'_>) -> Answer<()> {
        self.note(format!("{read:?}"));
        if read.offset == 0 {
            data.send(b"bytes");
            data.send(b"not these");
        }
        Ok(())
    }

    fn write(&self, _asker: &Asker, write: &Write<'_>) -> Answer<usize> {
        self.note(format!("write {:?} at {}", write.data, write.offset));
        Ok(write.data.len())
    }

    fn list(&self, _node: u64, _handle: u64, from: u64, listing: &mut Listing) -> Answer<()> {
        let mut next = from;
        while listing.add(next + 10, next + 1, 0o100_000, OsStr::new("name")) {
            next += 1;
        }
        Ok(())
    }

    fn list_entries(&self, _node: u64, _handle: u64, from: u64, listing: &mut Listing) -> Answer<()> {
        let mut next = from;
        while listing.add_entry(&made(next + 10), next + 1, OsStr::new("name")) {
            next += 1;
        }
        Ok(())
    }

    fn usage(&self, _node: u64) -> Answer<Usage> {
        Ok(Usage::default())
    }

    fn set_attribute(&self, _asker: &Asker, _node: u64, attribute: &SetAttribute<'_>) -> Answer<()> {
        self.note(format!("{attribute:?}"));
        Ok(())
    }

    fn attribute(&self, _asker: &Asker, _node: u64, _name: &OsStr) -> Answer<Vec<u8>> {
        Ok(self.value.clone())
    }

    fn attribute_names(&self, _asker: &Asker, _node: u64) -> Answer<Vec<u8>> {
        Ok(self.value.clone())
    }

    fn copy(&self, _asker: &Asker, copy: &Copy) -> Answer<u64> {
        Ok(copy.length)
    }

    fn ioctl(&self, _asker: &Asker, ioctl: &Ioctl<'_>) -> Answer<(i32, Vec<u8>)> {
        Ok((3, ioctl.argument.repeat(2)))
    }
}

/// What was sent.
#[derive(Default)]
struct Sent(Vec<(OutHeader, Vec<u8>)>);

impl Way for Sent {
    fn send(&mut self, header: OutHeader, parts: [&[u8]; 2]) -> io::Result<()> {
        self.0.push((header, parts.concat()));
        Ok(())
    }
}

fn ask(filesystem: &Told, long_setxattr: bool, opcode: u32, body: &[u8]) -> Option<(i32, Vec<u8>)> {
    let mut header = InHeader::new_zeroed();
    (header.opcode, header.unique, header.node) = (opcode, 42, 2);
    (header.uid, header.gid, header.pid) = (1000, 100, 77);
    let mut sent = Sent::default();
    serve(filesystem, long_setxattr, &header, Arguments::new(body), &mut sent);
    assert!(sent.0.len() <= 1, "answered twice");
    let (header, body) = sent.0.pop()?;
    assert_eq!((header.unique, usize::try_from(header.length).unwrap()), (42, 16 + body.len()));
    assert!(header.error == 0 || body.is_empty());
    Some((header.error, body))
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn read<T: FromBytes + Immutable>(answer: Option<(i32, Vec<u8>)>) -> T {
    let (error, body) = answer.unwrap();
    assert_eq!(error, 0);
    T::read_from_bytes(&body).unwrap()
}

#[test]
fn lookup_is_asked_by_whoever_asked() {
    let told = Told::default();
    let entry: EntryOut = read(ask(&told, false, 1, b"name\0"));
    assert_eq!((entry.node, entry.name_valid, entry.attributes.mode), (7, 3, 0o100_640));
    assert_eq!(told.asked(), ["lookup 2 \"name\" by 1000:100 77"]);
}

#[test]
fn what_is_not_known_or_not_done_is_enosys() {
    let told = Told::default();
    for opcode in [0, 7, 31, 36, 40, 99, u32::MAX] {
        assert_eq!(ask(&told, false, opcode, &[0; 64]).unwrap().0, -libc::ENOSYS, "{opcode}");
    }
    // FUSE_MKNOD, which it leaves to the default.
    assert_eq!(ask(&told, false, 8, &[0; 64]).unwrap().0, -libc::ENOSYS);
}

#[test]
fn forgetting_has_no_answer() {
    let told = Told::default();
    assert_eq!(ask(&told, false, 2, 5_u64.as_bytes()), None);
    let two =
        bytes(&[2_u64.as_bytes(), 11_u64.as_bytes(), 1_u64.as_bytes(), 12_u64.as_bytes(), 3_u64.as_bytes()]);
    assert_eq!(ask(&told, false, 42, &two), None);
    // One that says more than it has, and one that is cut off.
    assert_eq!(ask(&told, false, 42, u64::MAX.as_bytes()), None);
    assert_eq!(ask(&told, false, 2, &[1]), None);
    assert_eq!(told.asked(), ["forget 2 5", "forget 11 1", "forget 12 3"]);
}

#[test]
fn panic_of_the_file_system_is_eio_for_that_request() {
    assert_eq!(ask(&Told::default(), false, 1, b"panics\0"), Some((-libc::EIO, Vec::new())));
}

#[test]
fn attributes_come_as_stat_and_as_statx() {
    let told = Told::default();
    let found: AttrOut = read(ask(&told, false, 3, GetattrIn { flags: 1, padding: 0, handle: 6 }.as_bytes()));
    assert_eq!((found.valid, found.valid_nanoseconds, found.attributes.ino), (1, 500_000_000, 2));
    let asked = StatxIn { flags: 0, reserved: 0, handle: 6, statx_flags: 0, mask: 0xfff };
    let found: StatxOut = read(ask(&told, false, 52, asked.as_bytes()));
    assert_eq!((found.found.mask, found.found.btime.seconds, found.found.mode), (0xfff, -2, 0o100_640));
    assert_eq!(told.asked(), ["attributes 2 Some(6)", "attributes 2 None"]);
}

#[test]
fn only_what_is_valid_is_set() {
    let told = Told::default();
    let mut asked = SetattrIn::new_zeroed();
    (asked.valid, asked.size, asked.mode, asked.uid) =
        (SetattrIn::SIZE | SetattrIn::MTIME | SetattrIn::ATIME, 9, 1, 1);
    asked.valid |= SetattrIn::ATIME_NOW;
    (asked.mtime, asked.mtime_nanoseconds) = (-2, 250_000_000);
    ask(&told, false, 4, asked.as_bytes());
    let expected = SetAttributes {
        size: Some(9),
        accessed: Some(TimeOrNow::Now),
        modified: Some(TimeOrNow::At(Time { seconds: -2, nanoseconds: 250_000_000 })),
        ..SetAttributes::default()
    };
    assert_eq!(told.asked(), [format!("set 2 {expected:?}")]);
}

#[test]
fn unnamed_file_is_made_without_its_name_being_looked_at() {
    let told = Told::default();
    let asked = CreateIn { flags: 2, mode: 0o100_600, umask: 0o22, open_flags: 0 };
    let (error, body) = ask(&told, false, 51, &bytes(&[asked.as_bytes(), b"/\0"])).unwrap();
    assert_eq!((error, body.len()), (0, size_of::<EntryOut>() + size_of::<OpenOut>()));
    let (entry, rest) = EntryOut::read_from_prefix(&body).unwrap();
    let open = OpenOut::read_from_bytes(rest).unwrap();
    assert_eq!((entry.node, open.handle, open.backing), (8, 9, 0));
    assert!(told.asked()[0].contains("name: \"\""), "{:?}", told.asked());
}

#[test]
fn read_sends_once_and_nothing_at_the_end() {
    let told = Told::default();
    let mut asked = ReadIn::new_zeroed();
    asked.size = 100;
    assert_eq!(ask(&told, false, 15, asked.as_bytes()), Some((0, b"bytes".to_vec())));
    asked.offset = 5;
    assert_eq!(ask(&told, false, 15, asked.as_bytes()), Some((0, Vec::new())));
}

#[test]
fn write_takes_as_many_bytes_as_it_says_and_has() {
    let told = Told::default();
    let mut asked = WriteIn::new_zeroed();
    (asked.offset, asked.size) = (3, 2);
    let answer: WriteOut = read(ask(&told, false, 16, &bytes(&[asked.as_bytes(), b"abc"])));
    assert_eq!(answer.size, 2);
    asked.size = 4;
    assert_eq!(ask(&told, false, 16, &bytes(&[asked.as_bytes(), b"abc"])).unwrap().0, -libc::EIO);
    assert_eq!(told.asked(), ["write [97, 98] at 3"]);
}

#[test]
fn attribute_is_its_size_its_value_or_too_long() {
    let told = Told { value: b"12345".to_vec(), ..Told::default() };
    for opcode in [22, 23] {
        let get = |size| {
            ask(&told, false, opcode, &bytes(&[GetxattrIn { size, padding: 0 }.as_bytes(), b"user.a\0"]))
        };
        assert_eq!(read::<GetxattrOut>(get(0)).size, 5);
        assert_eq!(get(4), Some((-libc::ERANGE, Vec::new())));
        assert_eq!(get(5), Some((0, b"12345".to_vec())));
    }
}

#[test]
fn set_attribute_says_whether_the_bit_is_lost_where_that_was_agreed() {
    let told = Told::default();
    let short = SetxattrIn { size: 2, flags: 1 };
    let more = SetxattrMore { setxattr_flags: 1, padding: 0 };
    ask(&told, false, 21, &bytes(&[short.as_bytes(), b"user.a\0xy"]));
    ask(&told, true, 21, &bytes(&[short.as_bytes(), more.as_bytes(), b"user.a\0xy"]));
    let told = told.asked();
    assert!(told[0].contains("\"user.a\", value: [120, 121], flags: 1, clears_sgid: None"), "{told:?}");
    assert!(told[1].contains("\"user.a\", value: [120, 121], flags: 1, clears_sgid: Some(true)"), "{told:?}");
}

#[test]
fn copy_of_more_than_32_bits_is_told_whole_or_cut_to_what_can_be_told() {
    let told = Told::default();
    let mut asked = CopyFileRangeIn::new_zeroed();
    asked.length = 1 << 40;
    assert_eq!(read::<CopyFileRangeOut>(ask(&told, false, 53, asked.as_bytes())).copied, 1 << 40);
    assert_eq!(read::<WriteOut>(ask(&told, false, 47, asked.as_bytes())).size, 0xffff_f000);
}

#[test]
fn ioctl_gives_back_no_more_than_there_is_room() {
    let asked = IoctlIn { handle: 0, flags: 0, command: 1, argument: 0, in_size: 2, out_size: 3 };
    let (error, body) = ask(&Told::default(), false, 39, &bytes(&[asked.as_bytes(), b"ab"])).unwrap();
    assert_eq!((error, &body[..4], &body[16..]), (0, 3_i32.as_bytes(), &b"aba"[..]));
}

#[test]
fn listing_stays_within_what_it_was_asked_for_whatever_that_is() {
    for opcode in [28, 44] {
        for size in [0, 1, 31, 4096, u32::MAX] {
            let mut asked = ReadIn::new_zeroed();
            asked.size = size;
            let (error, body) = ask(&Told::default(), false, opcode, asked.as_bytes()).unwrap();
            assert_eq!(error, 0);
            assert!(body.len() <= usize::try_from(size.min(LONGEST_LISTING)).unwrap());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_at_most_once(opcode in 0_u32..60, long in any::<bool>(), body in vec(any::<u8>(), 0..200)) {
        let answer = ask(&Told { value: vec![1; 10], ..Told::default() }, long, opcode, &body);
        prop_assert_eq!(answer.is_none(), matches!(opcode, 2 | 42));
    }
}
