//! Requests on the socket, as many as somebody can send: what they cost, and who else is served meanwhile.
#![allow(missing_docs, reason = "tests are documented by their names")]

mod volume;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use homi_client::Session;
use homifs_clients::{ClientLimits, Server};

use volume::Volume;

/// What a user may take at once after a rest is taken by then, on a machine of two processors or fewer.
const BEFORE: Duration = Duration::from_millis(1500);
const WINDOW: Duration = Duration::from_secs(2);

/// Something that a client asks for.
type Request<'a> = dyn Fn(&Session) + Sync + 'a;

/// What the threads that answer requests have worked so far: all of this process that are named for it.
fn answering() -> Duration {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = thread.unwrap().path();
        // Threads of the pool end when they like.
        let (Ok(name), Ok(times)) =
            (std::fs::read_to_string(path.join("comm")), std::fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        if name.starts_with("clients") {
            sum += times.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    Duration::from_nanos(sum)
}

#[test]
fn flood_of_requests_takes_its_part_of_the_processors_and_queues_are_served() {
    let Some(volume) = Volume::new() else { return };
    let homifs = volume.mount(true);
    let server = Server::start(&homifs, 1, ClientLimits::default()).unwrap();
    let handle = volume.of(&homifs).handle_of(b"large");
    let other = Session::connect(server.path()).unwrap();
    let (large, mut reader) = (other.open_handle(&handle).unwrap(), other.reader(64 << 10).unwrap());
    let kinds: [(&str, &Request<'_>); 5] = [
        ("identify", &|session| assert!(session.identify(1).is_ok())),
        ("open", &|session| drop(session.open_handle(&handle).unwrap())),
        ("buffer", &|session| drop(session.buffer(1 << 20).unwrap())),
        ("connect", &|_| drop(Session::connect(server.path()))),
        ("wake", &|session| session.wake().unwrap()),
    ];
    let (over, counts) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 5]);
    thread::scope(|scope| {
        for ((_, request), count) in kinds.iter().zip(&counts) {
            let (over, handle, path) = (&over, &handle, server.path());
            scope.spawn(move || {
                let session = Session::connect(path).unwrap();
                let _first = session.open_handle(handle).unwrap();
                while !over.load(Ordering::Relaxed) {
                    request(&session);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(BEFORE);
        let (start, before) = (Instant::now(), answering());
        let asked: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let (mut reads, mut bytes) = (0, vec![0; 64 << 10]);
        while start.elapsed() < WINDOW {
            assert_eq!(reader.read(&large, 0, &mut bytes).unwrap(), bytes.len());
            reads += 1;
        }
        let (took, time) = (answering().saturating_sub(before), start.elapsed());
        over.store(true, Ordering::Relaxed);
        let processors = thread::available_parallelism().unwrap().get();
        let part = (processors as f64 / 8.0).min(1.0);
        let share = took.as_secs_f64() / time.as_secs_f64();
        let rates = counts.iter().zip(asked).map(|(count, asked)| count.load(Ordering::Relaxed) - asked);
        let rates: Vec<_> = kinds.iter().map(|(name, _)| *name).zip(rates).collect();
        println!(
            "{share:.3} of a processor where {part} are theirs, {reads} reads beside {rates:?} in {time:?}"
        );
        // What the system adds to a turn beside what is counted for it differs from machine to machine.
        assert!(share < part * 1.4, "requests took {share} of a processor, where {part} are theirs");
        assert!(reads > 0 && rates.iter().all(|(_, rate)| *rate > 0), "{reads} reads beside {rates:?}");
    });
}
