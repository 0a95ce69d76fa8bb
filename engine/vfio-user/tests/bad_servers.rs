//! The client against servers that refuse, stop, leave or talk nonsense: one clear error, and nothing waits longer
//! than it was told to.

#[path = "peers/fake_server.rs"]
mod fake_server;

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine_dma::PAGE;
use engine_transport::{Transport, TransportError};
use engine_vfio_user::wire::{Capabilities, Command, DmaAccess, DmaMap, TwinSocket, flag, write_version};
use engine_vfio_user::{Message, Socket, VfioUserTransport};
use fake_server::{Answer, Fake, command, connect, impatient, is_register_read, reply, right, take};
use zerocopy::{FromBytes, IntoBytes};

fn with_header(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// Any error of the right kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gone,
    Refused,
    Protocol,
    Late,
    System,
}

fn kind(error: &TransportError) -> Kind {
    match error {
        TransportError::Gone { .. } => Kind::Gone,
        TransportError::Refused { .. } => Kind::Refused,
        TransportError::Protocol { .. } => Kind::Protocol,
        TransportError::Late { .. } => Kind::Late,
        _ => Kind::System,
    }
}

#[test]
fn nothing_at_the_path_is_an_error_at_once() {
    let place = tempfile::tempdir().unwrap();
    let start = Instant::now();
    for path in [place.path().to_owned(), place.path().join("none"), place.path().join("x".repeat(200))] {
        let error = VfioUserTransport::connect(&path).unwrap_err();
        assert_eq!(kind(&error), Kind::System, "{path:?}: {error}");
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn server_that_accepts_nobody_is_late() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = VfioUserTransport::connect_within(&path, impatient()).unwrap_err();
    assert_eq!(kind(&error), Kind::Late, "{error}");
}

#[test]
fn server_that_speaks_something_else_is_a_protocol_error() {
    for noise in [
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n".as_slice(),
        &[0xff; 4096],
        &[0; 4096],
    ] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let noise = noise.to_vec();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(&noise);
            thread::sleep(Duration::from_millis(100));
        });
        let start = Instant::now();
        let error = VfioUserTransport::connect_within(&path, impatient()).unwrap_err();
        assert_eq!(kind(&error), Kind::Protocol, "{error}");
        assert!(start.elapsed() < Duration::from_millis(400));
        server.join().unwrap();
    }
}

#[test]
fn handshake_gone_wrong_is_told_for_what_it_is() {
    type Wrong = fn(&Message) -> Answer;
    let cases: [(&str, Wrong, Kind); 9] = [
        ("refused", |m| Answer::Bytes(m.header.refusal(22).as_bytes().to_vec()), Kind::Refused),
        ("closed", |_| Answer::Close, Kind::Gone),
        ("silent", |_| Answer::Nothing, Kind::Late),
        (
            "another major version",
            |m| Answer::Bytes(reply(m, &write_version(1, 0, &Capabilities::default()))),
            Kind::Protocol,
        ),
        (
            "a newer minor version",
            |m| Answer::Bytes(reply(m, &write_version(0, 2, &Capabilities::default()))),
            Kind::Protocol,
        ),
        ("too short", |m| Answer::Bytes(reply(m, &[0, 0])), Kind::Protocol),
        ("no JSON", |m| Answer::Bytes(reply(m, b"\0\0\x01\0nonsense\0")), Kind::Protocol),
        ("half", |m| Answer::Bytes(right(m)[..20].to_vec()), Kind::Protocol),
        (
            "a second socket that is not there",
            |m| {
                let twin_socket = Some(TwinSocket { supported: true, fd_index: Some(0) });
                let capabilities = Capabilities { twin_socket, ..Capabilities::default() };
                Answer::Bytes(reply(m, &write_version(0, 1, &capabilities)))
            },
            Kind::Protocol,
        ),
    ];
    for (what, wrong, expected) in cases {
        let start = Instant::now();
        let error =
            Fake::connecting(move |number, message| if number == 0 { wrong(message) } else { Answer::Right });
        let error = error.unwrap_err();
        assert_eq!(kind(&error), expected, "{what}: {error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{what}");
    }
}

#[test]
fn device_that_is_no_nvme_controller_is_refused() {
    let error = Fake::connecting(|_, message| {
        if message.header.kind() == Command::REGION_READ {
            let body = [&message.body[..], &[0, 0, 2][..]].concat();
            return Answer::Bytes(reply(message, &body));
        }
        Answer::Right
    });
    let error = error.unwrap_err();
    assert_eq!(kind(&error), Kind::Protocol);
    assert!(error.to_string().contains("02 00 00"), "{error}");
    let small = Fake::connecting(|_, message| {
        if message.header.kind() == Command::DEVICE_GET_REGION_INFO {
            return Answer::Bytes(reply(message, &[0; 32]));
        }
        Answer::Right
    });
    assert_eq!(kind(&small.unwrap_err()), Kind::Protocol);
    let no_pci = Fake::connecting(|_, message| {
        if message.header.kind() == Command::DEVICE_GET_INFO {
            return Answer::Bytes(reply(message, &[0; 16]));
        }
        Answer::Right
    });
    assert_eq!(kind(&no_pci.unwrap_err()), Kind::Protocol);
}

#[test]
fn every_request_of_connecting_refused_silent_or_cut_ends_with_an_error() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    Fake::connecting(move |number, _| {
        counted.store(number + 1, Ordering::Relaxed);
        Answer::Right
    })
    .unwrap();
    let requests = count.load(Ordering::Relaxed);
    assert!(requests >= 6, "{requests}");
    for bad in 0..requests {
        let refused = Fake::connecting(move |number, message| {
            if number == bad {
                Answer::Bytes(message.header.refusal(5).as_bytes().to_vec())
            } else {
                Answer::Right
            }
        });
        assert_eq!(kind(&refused.unwrap_err()), Kind::Refused, "request {bad}");
        let silent =
            Fake::connecting(move |number, _| if number == bad { Answer::Nothing } else { Answer::Right });
        assert_eq!(kind(&silent.unwrap_err()), Kind::Late, "request {bad}");
        let closed =
            Fake::connecting(move |number, _| if number == bad { Answer::Close } else { Answer::Right });
        assert_eq!(kind(&closed.unwrap_err()), Kind::Gone, "request {bad}");
        let short =
            Fake::connecting(
                move |number, message| {
                    if number == bad { Answer::Bytes(reply(message, &[])) } else { Answer::Right }
                },
            );
        // The reply to a write has nothing that is needed.
        if let Err(error) = short {
            assert_eq!(kind(&error), Kind::Protocol, "request {bad}: {error}");
        }
    }
}

#[test]
fn register_read_answered_wrongly_breaks_the_connection_for_good() {
    type Wrong = fn(&Message) -> Vec<u8>;
    let cases: [(&str, Wrong); 8] = [
        ("another number", |m| with_header(right(m), 0, &m.header.id.get().wrapping_add(1).to_ne_bytes())),
        ("another command", |m| with_header(right(m), 2, &3_u16.to_ne_bytes())),
        ("neither command nor reply", |m| with_header(right(m), 8, &7_u32.to_ne_bytes())),
        ("size below a header", |m| with_header(right(m), 4, &15_u32.to_ne_bytes())),
        ("size of gigabytes", |m| with_header(right(m), 4, &u32::MAX.to_ne_bytes())),
        ("fewer bytes than asked for", |m| reply(m, &m.body)),
        ("another count", |m| with_header(right(m), 28, &8_u32.to_ne_bytes())),
        ("half a message", |m| right(m)[..18].to_vec()),
    ];
    for (what, wrong) in cases {
        let fake = Fake::start(move |_, message| {
            if is_register_read(message) { Answer::Bytes(wrong(message)) } else { Answer::Right }
        });
        let client = connect(&fake.path());
        let start = Instant::now();
        let error = client.read32(0).unwrap_err();
        assert_eq!(kind(&error), Kind::Protocol, "{what}: {error}");
        assert!(start.elapsed() < Duration::from_secs(1), "{what}");
        for _ in 0..3 {
            assert_eq!(kind(&client.read32(0).unwrap_err()), Kind::Protocol, "{what}");
            assert_eq!(kind(&client.arena(PAGE).unwrap_err()), Kind::Protocol, "{what}");
        }
    }
}

#[test]
fn reply_sent_twice_breaks_the_connection() {
    let fake = Fake::start(|_, message| {
        if is_register_read(message) {
            return Answer::Bytes([right(message), right(message)].concat());
        }
        Answer::Right
    });
    let client = connect(&fake.path());
    assert_eq!(client.read32(0).unwrap(), 0);
    // The thread that watches, or the next request, finds the other one.
    let error = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        client.read32(0).err()
    });
    assert_eq!(error.as_ref().map(kind), Some(Kind::Protocol), "{error:?}");
}

#[test]
fn reply_that_comes_late_is_late_and_disturbs_nobody() {
    let mut asked = 0;
    let fake = Fake::start(move |_, message| {
        if is_register_read(message) {
            asked += 1;
            if asked == 2 {
                return Answer::Later;
            }
        }
        Answer::Right
    });
    let client = connect(&fake.path());
    client.read32(0).unwrap();
    let start = Instant::now();
    let error = client.read32(0).unwrap_err();
    assert_eq!(kind(&error), Kind::Late, "{error}");
    assert!(start.elapsed() >= impatient().reply && start.elapsed() < impatient().reply * 2);
    // Now both answers come, the late one first.
    for _ in 0..10 {
        assert_eq!(client.read32(0).unwrap(), 0);
    }
}

#[test]
fn server_that_owes_too_many_replies_is_given_up() {
    let fake =
        Fake::start(|_, message| if is_register_read(message) { Answer::Nothing } else { Answer::Right });
    let client = connect(&fake.path());
    let threads: Vec<_> = (0..80)
        .map(|_| {
            let client = Arc::clone(&client);
            thread::spawn(move || kind(&client.read32(0).unwrap_err()))
        })
        .collect();
    let kinds: Vec<Kind> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(kinds.contains(&Kind::Late) && kinds.contains(&Kind::Protocol), "{kinds:?}");
    assert_eq!(kind(&client.read32(0).unwrap_err()), Kind::Protocol);
}

#[test]
fn connection_closed_while_many_wait_is_gone_for_all_of_them() {
    let close = Arc::new(AtomicBool::new(false));
    let when = Arc::clone(&close);
    let fake = Fake::start(move |_, message| {
        if when.load(Ordering::Relaxed) {
            return Answer::Close;
        }
        if is_register_read(message) { Answer::Nothing } else { Answer::Right }
    });
    let limits = engine_vfio_user::Limits { reply: Duration::from_secs(20), ..impatient() };
    let client = VfioUserTransport::connect_within(&fake.path(), limits).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let client = Arc::clone(&client);
            thread::spawn(move || kind(&client.read32(0).unwrap_err()))
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    close.store(true, Ordering::Relaxed);
    let start = Instant::now();
    assert_eq!(kind(&client.read32(0).unwrap_err()), Kind::Gone);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Kind::Gone);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn refusals_are_errors_that_say_what_was_refused() {
    let fake = Fake::start(|_, message| match message.header.kind() {
        Command::DMA_MAP => Answer::Bytes(message.header.refusal(12).as_bytes().to_vec()),
        Command::DEVICE_SET_IRQS => Answer::Bytes(message.header.refusal(22).as_bytes().to_vec()),
        // An error without a number, which the specification allows.
        Command::DEVICE_RESET => Answer::Bytes(message.header.refusal(0).as_bytes().to_vec()),
        _ => Answer::Right,
    });
    let client = connect(&fake.path());
    let map = client.arena(PAGE).unwrap_err();
    assert!(map.to_string().contains("refused to map 2097152 bytes"), "{map}");
    let interrupt = client.interrupt(2).unwrap_err();
    assert!(interrupt.to_string().contains("interrupt vector 2"), "{interrupt}");
    let TransportError::Refused { source, .. } = client.reset().unwrap_err() else { panic!() };
    assert_eq!(source.raw_os_error(), Some(5));
    assert_eq!(client.read32(0).unwrap(), 0, "all else goes on");
}

#[test]
fn memory_asked_for_by_messages_is_the_arenas_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(place.path().join("cntrl")).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let socket = Socket::over(stream.try_clone().unwrap().into());
        let mut found = Vec::new();
        while let Some(message) = take(&socket) {
            if message.header.kind() == Command::DMA_MAP {
                let map = DmaMap::read_from_bytes(&message.body).unwrap();
                stream.write_all(&right(&message)).unwrap();
                let (start, end) = (map.address.get(), map.address.get() + map.size.get());
                let mut ask = |what, address: u64, count: u64, data: &[u8]| {
                    let access = DmaAccess { address: address.into(), count: count.into() };
                    let body = [access.as_bytes(), data].concat();
                    stream.write_all(&command(0x7777, what, &body)).unwrap();
                    let reply = take(&socket).unwrap();
                    assert_eq!((reply.header.id.get(), reply.header.is_reply()), (0x7777, Some(true)));
                    (reply.header.has(flag::ERROR), reply.body)
                };
                found.push(ask(Command::DMA_WRITE, start + 100, 5, b"hello").0);
                let (failed, body) = ask(Command::DMA_READ, start + 99, 7, &[]);
                assert_eq!(body[16..], *b"\0hello\0");
                found.push(failed);
                // Outside, across the end, nowhere, too much, inconsistent, unknown.
                found.push(ask(Command::DMA_READ, end, 1, &[]).0);
                found.push(ask(Command::DMA_READ, end - 4, 8, &[]).0);
                found.push(ask(Command::DMA_WRITE, u64::MAX - 2, 5, b"hello").0);
                found.push(ask(Command::DMA_READ, start, u64::MAX, &[]).0);
                found.push(ask(Command::DMA_READ, start, (1 << 20) + 1, &[]).0);
                found.push(ask(Command::DMA_WRITE, start, 6, b"hello").0);
                found.push(ask(Command::REGION_READ, start, 4, &[]).0);
                continue;
            }
            if stream.write_all(&right(&message)).is_err() {
                break;
            }
        }
        found
    });
    let client = connect(place.path());
    let arena = client.arena(PAGE).unwrap();
    let mut read = [0; 5];
    while &read != b"hello" {
        arena.region().read(100, &mut read).unwrap();
    }
    // While nobody asks for anything, the thread that watches answers.
    thread::sleep(Duration::from_millis(100));
    drop(arena);
    drop(client);
    let [write, read, bad @ ..] = &server.join().unwrap()[..] else { panic!() };
    assert!(!write && !read);
    assert_eq!(bad, [true; 7]);
}

#[test]
fn many_threads_ask_at_once_and_each_gets_its_own_answer() {
    let fake = Fake::start(|_, message| {
        if is_register_read(message) {
            let offset = &message.body[..4];
            return Answer::Bytes(reply(message, &[&message.body[..], offset].concat()));
        }
        Answer::Right
    });
    let client = connect(&fake.path());
    let threads: Vec<_> = (0..8_u32)
        .map(|thread| {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                for number in 0..500 {
                    let offset = thread * 4096 + number * 4;
                    assert_eq!(client.read32(offset).unwrap(), offset);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
