//! A file whose reads take as long as a test wants, and cannot be cancelled: served through FUSE by hand, and read
//! through the page cache, for whose pages the kernel waits on a thread of its own.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Its length. Reads of its first half can be made to stall.
pub(crate) const SIZE: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

/// What byte `at` of the file is.
pub(crate) fn right(at: usize) -> u8 {
    (at % 251) as u8
}

/// The file, mounted while this lives. Whoever drops it lets go of what stalls.
pub(crate) struct Stalling {
    place: tempfile::NamedTempFile,
    server: Arc<Server>,
}

struct Server {
    fuse: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stalls: bool,
    /// Reads that stall: number, offset, length.
    held: Vec<(u64, u64, u32)>,
}

impl Stalling {
    /// Mounts it; says why and answers none where this machine cannot.
    pub(crate) fn mount() -> Option<Self> {
        let fuse = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(fuse) => fuse,
            Err(error) => {
                println!("skipped: /dev/fuse: {error}");
                return None;
            }
        };
        let place = tempfile::NamedTempFile::new().unwrap();
        // The root is a file itself, so that there are no names.
        let options = format!("fd={},rootmode=100644,user_id=0,group_id=0", fuse.as_raw_fd());
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        if let Err(error) = mount("stalling", place.path(), "fuse", flags, options.as_c_str()) {
            println!("skipped: mounting through FUSE: {error}");
            return None;
        }
        let server = Arc::new(Server { fuse, state: Mutex::default(), changed: Condvar::new() });
        let serving = Arc::clone(&server);
        std::thread::spawn(move || serving.serve());
        Some(Self { place, server })
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Lets reads of the first half stall from now on.
    pub(crate) fn stall(&self) {
        self.server.state().stalls = true;
    }

    /// Waits until `count` reads stall.
    pub(crate) fn await_stalled(&self, count: usize) {
        let fewer = |state: &mut State| state.held.len() < count;
        let waited = self.server.changed.wait_timeout_while(self.server.state(), LIMIT, fewer).unwrap();
        assert!(!waited.1.timed_out(), "no {count} reads arrived");
    }

    /// Answers what stalls, and what comes.
    pub(crate) fn let_go(&self) {
        let mut state = self.server.state();
        state.stalls = false;
        for (unique, offset, length) in std::mem::take(&mut state.held) {
            self.server.give(unique, offset, length);
        }
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.let_go();
        let _ = unmount(self.place.path(), UnmountFlags::DETACH);
    }
}

/// Numbers of the protocol (include/uapi/linux/fuse.h).
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
/// Without it the kernel waits for what it reads ahead, also where it was told not to wait.
const ASYNC_READ: u32 = 1;
/// Forgetting, in two ways, and interrupting.
const UNANSWERED: [u32; 3] = [2, 42, 36];

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers requests until the mount is gone.
    fn serve(&self) {
        let mut request = vec![0; 1 << 20];
        loop {
            let length = match (&self.fuse).read(&mut request) {
                Ok(length) => length,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(_) => return,
            };
            let request = &request[..length];
            let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
            let long = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
            let unique = long(8);
            match word(4) {
                INIT => {
                    let (flags, most) = (ASYNC_READ, 128_u32 << 10);
                    self.words(unique, &[7, 31, most, flags, 0, most, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                }
                GETATTR => {
                    let mut words = vec![0; 26];
                    (words[0], words[4], words[6], words[8]) = (3600, 1, SIZE as u32, (SIZE / 512) as u32);
                    // Mode, links, block size.
                    (words[19], words[20], words[24]) = (0o100_644, 1, 4096);
                    self.words(unique, &words);
                }
                OPEN => self.words(unique, &[0, 0, 0, 0]),
                READ => self.read(unique, long(48), word(56)),
                RELEASE | FLUSH => self.words(unique, &[]),
                code if UNANSWERED.contains(&code) => {}
                _ => self.reply(unique, -libc::ENOSYS, &[]),
            }
        }
    }

    fn read(&self, unique: u64, offset: u64, length: u32) {
        let mut state = self.state();
        if state.stalls && offset < SIZE / 2 {
            state.held.push((unique, offset, length));
            self.changed.notify_all();
        } else {
            self.give(unique, offset, length);
        }
    }

    fn give(&self, unique: u64, offset: u64, length: u32) {
        let end = (offset + u64::from(length)).min(SIZE);
        let bytes: Vec<u8> = (offset..end).map(|at| right(at as usize)).collect();
        self.reply(unique, 0, &bytes);
    }

    fn words(&self, unique: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.reply(unique, 0, &bytes);
    }

    fn reply(&self, unique: u64, error: i32, body: &[u8]) {
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend(((16 + body.len()) as u32).to_le_bytes());
        reply.extend(error.to_le_bytes());
        reply.extend(unique.to_le_bytes());
        reply.extend(body);
        // Whoever asked may be gone.
        let _ = (&self.fuse).write(&reply);
    }
}
