//! Memory that clients lend: what is taken, what is refused, and what they are told.
#![allow(missing_docs, reason = "tests are documented by their names")]
#![allow(unsafe_code, reason = "rustix has no call that makes a dma-buf")]

mod volume;

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use homi_client::{BufferKind, ClientError, Command, Session};
use homifs_clients::{ClientLimits, Server};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use volume::Volume;

const LENGTH: usize = 64 << 10;

/// Zeros, with these seals.
fn memfd(seals: SealFlags) -> OwnedFd {
    let file = memfd_create(c"buffer", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, u64::try_from(LENGTH).unwrap()).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// A dma-buf over a memfd; none, with the reason told, where the kernel makes none.
fn dma_buf(memfd: &OwnedFd) -> Option<OwnedFd> {
    /// `struct udmabuf_create` of <linux/udmabuf.h>.
    #[repr(C)]
    struct Create {
        memfd: i32,
        flags: u32,
        offset: u64,
        size: u64,
    }
    /// `UDMABUF_CREATE`: `_IOW('u', 0x42, struct udmabuf_create)`.
    const CREATE: libc::c_ulong = 0x4018_7542;
    let device = match File::options().read(true).write(true).open("/dev/udmabuf") {
        Ok(device) => device,
        Err(error) => {
            println!("skipped: /dev/udmabuf cannot be opened: {error}");
            return None;
        }
    };
    let size = u64::try_from(LENGTH).unwrap();
    let create = Create { memfd: memfd.as_raw_fd(), flags: 1, offset: 0, size };
    // SAFETY: The kernel reads the structure, which lives through the call.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), CREATE, &raw const create) };
    assert!(made >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: The call made the descriptor, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(made) })
}

fn errno_of(error: &ClientError) -> i32 {
    match error {
        ClientError::Refused { errno, .. } => *errno,
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_that_could_become_shorter_is_refused_and_sealed_memory_is_the_hosts() {
    let Some(volume) = Volume::new() else { return };
    let homifs = volume.mount(true);
    let server = Server::start(&homifs, 1, ClientLimits::default()).unwrap();
    let session = Session::connect(server.path()).unwrap();
    let refused = session.register_dma_buf(memfd(SealFlags::GROW), LENGTH).unwrap_err();
    assert_eq!(errno_of(&refused), libc::EPERM, "{refused}");
    assert_eq!(session.buffer(LENGTH).unwrap().kind(), BufferKind::Host);
}

#[test]
fn dma_buf_is_filled_by_copies_and_refused_by_an_engine_that_queues() {
    let Some(volume) = Volume::new() else { return };
    let memory = memfd(SealFlags::SHRINK);
    let Some(lent) = dma_buf(&memory) else { return };

    let homifs = volume.mount(false);
    let server = Server::start(&homifs, 1, ClientLimits::default()).unwrap();
    let session = Session::connect(server.path()).unwrap();
    let refused = session.register_dma_buf(lent.try_clone().unwrap(), LENGTH).unwrap_err();
    assert_eq!(errno_of(&refused), libc::EOPNOTSUPP, "{refused}");
    assert!(refused.to_string().contains("cannot write to device memory"), "{refused}");

    let homifs = volume.mount(true);
    let server = Server::start(&homifs, 1, ClientLimits::default()).unwrap();
    let session = Session::connect(server.path()).unwrap();
    let file = session.open_handle(&volume.of(&homifs).handle_of(b"large")).unwrap();
    let refused = session.register_dma_buf(lent.try_clone().unwrap(), LENGTH * 2);
    assert!(refused.is_err(), "more than the dma-buf has");
    let buffer = session.register_dma_buf(lent, LENGTH).unwrap();
    assert_eq!(buffer.kind(), BufferKind::DmaBuf);
    let mut queues = session.queues(1, 8).unwrap();
    let mut pair = queues.pair(0).unwrap();
    let length = u32::try_from(LENGTH).unwrap();
    let blocks = length >> file.block_shift();
    let command = Command { nsid: file.nsid(), block: 0, blocks, iova: buffer.iova(), length };
    pair.read(command).unwrap();
    pair.ring().unwrap();
    let answer = loop {
        match pair.reap() {
            Some(answer) => break answer,
            None => std::thread::yield_now(),
        }
    };
    assert_eq!(answer.status.code(), 0, "{:?}", answer.status);
    // By the memfd that the dma-buf was made of, another way to the same memory.
    let mut got = vec![0; LENGTH];
    File::from(memory).read_exact_at(&mut got, 0).unwrap();
    let wanted: Vec<u8> = (0..length / 4).flat_map(u32::to_le_bytes).collect();
    assert!(got == wanted);
}
