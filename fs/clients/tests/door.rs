//! Who comes in at the socket, and what becomes of those who do not behave.
#![allow(missing_docs, reason = "tests are documented by their names")]
#![allow(
    unsafe_code,
    reason = "a thread becomes another user, which nothing else can do for one thread alone"
)]

mod volume;

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use homi_abi::session::{MAGIC, MESSAGE_MAX, Message, VERSION, kind};
use homi_client::Session;
use homifs_clients::{ClientLimits, Server};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use zerocopy::IntoBytes;

use volume::Volume;

/// Longer than the daemon waits for anybody, much shorter than it would take to give up.
const PATIENCE: Duration = Duration::from_secs(25);

/// A connection that sends what it likes.
struct Raw(OwnedFd);

impl Raw {
    fn connect(path: &Path) -> Self {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).unwrap();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(&self.0, &[IoSlice::new(packet)], &mut ancillary, flags | SendFlags::NOSIGNAL).map(drop)
    }

    /// The next answer; none where the daemon has closed. What it hands over is closed.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(&self.0, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) if received.bytes > 0 => {
                bytes.truncate(received.bytes);
                Some(bytes)
            }
            Ok(_) | Err(Errno::CONNRESET) => None,
            Err(error) => panic!("no answer and no end: {error}"),
        }
    }
}

fn packet(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(size_of::<Message>() + body.len()).unwrap();
    let header = Message {
        magic: MAGIC,
        version: VERSION.into(),
        kind: kind.into(),
        length: length.into(),
        error: 0.into(),
        id: 7.into(),
    };
    [header.as_bytes(), body].concat()
}

/// The errno of an answer.
fn error_of(answer: &[u8]) -> u32 {
    u32::from_le_bytes(answer[12..16].try_into().unwrap())
}

/// Fills a connection with requests whose answers nobody reads, until no more go in.
fn clog(server: &Server) -> Raw {
    let raw = Raw::connect(server.path());
    raw.send(&packet(kind::HELLO, &[]), &[], SendFlags::empty()).unwrap();
    let request = packet(kind::CLOSE, &[0xff; 8]);
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(300) {
        if raw.send(&request, &[], SendFlags::DONTWAIT).is_ok() {
            since = Instant::now();
        }
        thread::sleep(Duration::from_micros(50));
    }
    raw
}

/// What a thread of this user does.
fn as_user<T: Send>(id: u32, work: impl FnOnce() -> T + Send) -> T {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let become_user = || -> rustix::io::Result<()> {
        // The system calls themselves, which are for one thread; those of the C library change all.
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    let as_somebody = || {
        become_user().unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(as_somebody).join().unwrap())
}

#[test]
fn client_that_reads_no_answers_does_not_delay_the_end_of_the_server() {
    let Some(volume) = Volume::new() else { return };
    let server = Server::start(&volume.mount(true), 1, ClientLimits::default()).unwrap();
    let _raw = clog(&server);
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < PATIENCE, "the end took {:?}", start.elapsed());
}

#[test]
fn client_that_reads_no_answers_and_one_that_says_nothing_lose_their_places() {
    let Some(volume) = Volume::new() else { return };
    let limits = ClientLimits { clients: 2, ..ClientLimits::default() };
    let server = Server::start(&volume.mount(true), 1, limits).unwrap();
    let silent = Raw::connect(server.path());
    let _clogged = clog(&server);
    let start = Instant::now();
    let mut inside = Vec::new();
    while inside.len() < 2 {
        assert!(start.elapsed() < PATIENCE, "{} places became free", inside.len());
        thread::sleep(Duration::from_millis(20));
        inside.extend(Session::connect(server.path()).ok());
    }
    assert!(silent.receive().is_none(), "nothing was asked, and something answered");
}

#[test]
fn user_takes_half_of_the_places_and_others_still_come_in() {
    let Some(volume) = Volume::new() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root becomes other users");
        return;
    }
    let limits = ClientLimits { clients: 4, ..ClientLimits::default() };
    let server = Server::start(&volume.mount(true), 1, limits).unwrap();
    let path = server.path();
    let come = |uid| as_user(uid, || Session::connect(path));
    let (first, second) = (come(12345).unwrap(), come(12345).unwrap());
    assert!(come(12345).is_err(), "a third of one user");
    let (_other, _root) = (come(12346).unwrap(), Session::connect(path).unwrap());
    assert!(come(12346).is_err(), "one more than there may be");
    drop((first, second));
    let start = Instant::now();
    while come(12345).is_err() {
        assert!(start.elapsed() < PATIENCE, "no place became free");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Descriptors that are no buffers, and one that could be.
fn descriptors() -> Vec<OwnedFd> {
    let memfd = |seals| {
        let file = memfd_create(c"odd", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 8192).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    };
    let (reads, writes) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    vec![
        reads,
        writes,
        File::open("/").unwrap().into(),
        File::open("/dev/null").unwrap().into(),
        eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        memfd(SealFlags::empty()),
        memfd(SealFlags::SHRINK),
        memfd(SealFlags::SHRINK | SealFlags::WRITE),
    ]
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn malformed_packets_are_answered_with_an_error_or_the_end_and_leave_nothing() {
    let Some(volume) = Volume::new() else { return };
    let homifs = volume.mount(true);
    let server = Server::start(&homifs, 1, ClientLimits::default()).unwrap();
    let good = Session::connect(server.path()).unwrap();
    let large = good.open_handle(&volume.of(&homifs).handle_of(b"large")).unwrap();
    let mut reader = good.reader(4096).unwrap();
    let mut read = || {
        let mut bytes = vec![0; 4096];
        assert_eq!(reader.read(&large, 4096, &mut bytes).unwrap(), 4096);
        assert_eq!(bytes[..4], 1024_u32.to_le_bytes());
    };
    read();
    let odd = descriptors();
    let before = open_descriptors();
    // The same numbers in each run (Marsaglia's xorshift).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
    };
    let kinds = [kind::QUEUES, kind::BUFFER, kind::RELEASE, kind::OPEN, kind::CLOSE, kind::SNAPSHOT];
    let lengths = [0, 1, 7, 8, 9, 16, 24, 63, 64, 65, 4000];
    let (mut refused, mut ended) = (0, 0);
    for round in 0..600 {
        let raw = Raw::connect(server.path());
        let early = below(8) == 0;
        if !early {
            raw.send(&packet(kind::HELLO, &[]), &[], SendFlags::empty()).unwrap();
            assert_eq!(error_of(&raw.receive().unwrap()), 0);
        }
        for _ in 0..4 {
            let body: Vec<u8> = (0..lengths[below(lengths.len())])
                .map(|_| [0, 1, 0xff, u8::try_from(below(256)).unwrap()][below(4)])
                .collect();
            let kind = if below(4) == 0 { u16::try_from(below(1 << 16)).unwrap() } else { kinds[below(6)] };
            let mut bytes = packet(kind, &body);
            match below(6) {
                // The header: magic, version, kind, length, error or number.
                0 => {
                    let at = below(24);
                    bytes[at] ^= 1 << below(8);
                }
                1 => bytes.truncate(below(bytes.len()).max(1)),
                2 => bytes.resize(bytes.len() + 1 + below(5000), 0xaa),
                _ => {}
            }
            let count = [0, 0, 1, 1, 2, 4, 5, 8][below(8)];
            let with: Vec<_> = (0..count).map(|_| odd[below(odd.len())].as_fd()).collect();
            if raw.send(&bytes, &with, SendFlags::empty()).is_err() {
                break;
            }
            match raw.receive() {
                Some(answer) => {
                    assert!(answer.len() >= size_of::<Message>() && answer[..4] == MAGIC, "round {round}");
                    refused += usize::from(error_of(&answer) != 0);
                    assert!(
                        !early || error_of(&answer) != 0 || kind == kind::HELLO,
                        "round {round}: {bytes:?}"
                    );
                }
                None => {
                    ended += 1;
                    break;
                }
            }
        }
        if round % 100 == 0 {
            read();
        }
    }
    assert!(refused > 100 && ended > 100, "{refused} refused, {ended} ended: that proves little");
    read();
    let start = Instant::now();
    while open_descriptors() > before {
        assert!(start.elapsed() < PATIENCE, "{} descriptors, before there were {before}", open_descriptors());
        thread::sleep(Duration::from_millis(20));
    }
}
