//! What is opened, what is refused, and that nothing is left behind.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::Command;

use engine_block::{Piece, Pieces, Request, Wait};
use engine_open::{Backend, Direct, OpenError, OpenOptions, open};

#[test]
fn what_is_no_file_or_disk_is_refused_by_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (fifo, socket, link) = (path("fifo"), path("socket"), path("link"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _listener = UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    let cases = [
        (directory.path().to_str().unwrap(), "a directory"),
        ("/dev/null", "a character device"),
        (&fifo, "a FIFO"), // and does not wait for somebody to write to it
        (&link, "a FIFO"),
        (&socket, "a socket"),
    ];
    for (spec, what) in cases {
        let refused = open(spec, &OpenOptions::default()).unwrap_err();
        assert!(
            matches!(&refused, OpenError::Spec(text) if text.contains(spec) && text.contains(what)),
            "{refused}"
        );
    }
    let refused = open(&path("nothing"), &OpenOptions::default()).unwrap_err();
    let OpenError::System { action: "find", source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn device_is_writable_only_where_it_was_opened_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8192).unwrap();
    let spec = file.path().to_str().unwrap();
    for read_only in [true, false] {
        let device = open(spec, &OpenOptions { read_only, ..OpenOptions::default() }).unwrap();
        assert_eq!(device.info().writable, !read_only);
    }
}

#[test]
fn empty_image_opens_and_has_nothing_to_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let device = open(file.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(device.info().size, 0);
    assert_eq!(device.read_at(0, &mut [0]).unwrap_err().errno, libc::EINVAL);
    device.read_at(0, &mut []).unwrap();
}

#[test]
fn info_says_which_way_was_taken() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let spec = file.path().to_str().unwrap();
    for (backend, word) in [(Backend::IoUring, "io_uring"), (Backend::Pread, "pread")] {
        for (direct, how) in [(Direct::On, "O_DIRECT"), (Direct::Off, "page cache")] {
            let options = OpenOptions { backend, direct, ..OpenOptions::default() };
            let device = open(spec, &options).unwrap();
            let path = &device.info().path;
            assert!(path.contains(word) && path.contains(how) && path.contains(spec), "{path}");
        }
    }
}

/// Descriptors, and pages of address space.
fn held() -> (usize, u64) {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = pages.split(' ').next().unwrap().parse().unwrap();
    (fs::read_dir("/proc/self/fd").unwrap().count(), pages)
}

#[test]
fn thousand_devices_opened_read_and_closed_leave_nothing_behind() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0x5A; 64 << 10]).unwrap();
    let spec = file.path().to_str().unwrap();
    let once = |round: usize| {
        let backend = if round.is_multiple_of(4) { Backend::Pread } else { Backend::IoUring };
        let device = open(spec, &OpenOptions { backend, ..OpenOptions::default() }).unwrap();
        let mut queue = device.queue(8).unwrap();
        for tag in 0..8 {
            let buffer = queue.buffer(5000).unwrap();
            // Half of them need bounce memory.
            let piece = Piece { device_offset: tag * 100, buffer_offset: 0, length: 4096 };
            queue.submit(Request { tag, buffer, pieces: Pieces::from_slice(&[piece]) }).unwrap();
        }
        if round.is_multiple_of(2) {
            // The others are dropped with everything in flight.
            let mut done = Vec::new();
            while queue.in_flight() > 0 {
                queue.poll(Wait::One, &mut done).unwrap();
            }
            assert!(done.iter().all(|completion| completion.buffer[..4096] == [0x5A; 4096]));
        }
    };
    (0..50).for_each(once);
    let (descriptors, pages) = held();
    (0..1000).for_each(once);
    let (descriptors_after, pages_after) = held();
    assert_eq!(descriptors_after, descriptors);
    // One queue maps 1024 pages; that a thousand leave less than two behind cannot be by luck.
    assert!(pages_after < pages + 2048, "{pages} pages before, {pages_after} after");
}
