//! A session: agreed once, then served by threads until the file system is not mounted any more.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::arguments::Arguments;
use crate::connection::Connection;
use crate::device::Device;
use crate::dispatch::serve;
use crate::filesystem::Filesystem;
use crate::negotiation::{Agreement, Capabilities, Offer};
use crate::reply::Reply;
use crate::roster::Roster;
use crate::wire::{InitIn, InitMore, InitOut, MAJOR, MINOR, OLDEST_MINOR, Opcode};

/// The kernel's default for the longest request (`fs.fuse.max_pages_limit`).
const LONGEST_WRITE: u32 = 1 << 20;

/// An agreed session that nobody serves yet: requests wait until [`run`](Self::run).
#[derive(Debug)]
pub struct Session<F> {
    filesystem: Arc<F>,
    connection: Arc<Connection>,
    agreed: Agreement,
}

impl<F: Filesystem> Session<F> {
    /// Agrees with the kernel about a connection that was just mounted.
    ///
    /// # Errors
    /// Where the kernel's protocol is too old, or the connection is gone.
    pub fn begin(filesystem: F, connection: Arc<Connection>) -> io::Result<Self> {
        let filesystem = Arc::new(filesystem);
        let mut device = Device::new(connection.device().try_clone()?, LONGEST_WRITE);
        loop {
            let Some((request, mut answers)) = device.receive()? else {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "it was unmounted before it began"));
            };
            let mut reply = Reply::new(&mut answers, request.header.unique);
            if Opcode::of(request.header.opcode) != Some(Opcode::Init) {
                reply.error(rustix::io::Errno::IO);
                continue;
            }
            let mut arguments = request.arguments;
            let asked: InitIn = arguments.take()?;
            if asked.major > MAJOR {
                // It asks again in the version that it is told.
                reply.structure(&InitOut { major: MAJOR, minor: MINOR, ..InitOut::default() });
                continue;
            }
            if asked.major < MAJOR || asked.minor < OLDEST_MINOR {
                reply.error(rustix::io::Errno::PROTO);
                return Err(io::Error::other(format!(
                    "it speaks protocol {}.{}, and {MAJOR}.{OLDEST_MINOR} (Linux 5.4) is the oldest that is served",
                    asked.major, asked.minor
                )));
            }
            let offer = offer(&asked, &mut arguments)?;
            let agreed = cut(&filesystem.agree(&offer), &offer);
            reply.structure(&init_out(&asked, &agreed));
            return Ok(Self { filesystem, connection, agreed });
        }
    }

    /// Answers requests on so many threads until the file system is not mounted any more.
    ///
    /// # Errors
    /// Where the connection broke before, or there are no threads to be had.
    pub fn run(self, threads: usize) -> io::Result<()> {
        let Self { filesystem, connection, agreed } = self;
        let long_setxattr = agreed.capabilities.contains(Capabilities::SETXATTR_EXT);
        let (ended, ends) = mpsc::channel();
        let roster = Arc::new(Roster::default());
        let threads = threads.max(1);
        let mut workers = Vec::new();
        for number in 0..threads {
            let mut device = Device::new(connection.another()?, agreed.max_write);
            let (filesystem, roster) = (Arc::clone(&filesystem), Arc::clone(&roster));
            let ended = ended.clone();
            let work = move || {
                let mut answer_all = || -> io::Result<()> {
                    loop {
                        roster.wait();
                        let received = device.receive();
                        roster.took();
                        let Some((request, mut answers)) = received? else { return Ok(()) };
                        let (header, arguments) = (request.header, request.arguments);
                        serve(&*filesystem, long_setxattr, &header, arguments, &mut answers);
                    }
                };
                let result = answer_all();
                roster.end();
                // Nobody listens any more where another one has failed.
                let _ = ended.send(result);
            };
            workers.push(thread::Builder::new().name(format!("fuse-{number}")).spawn(work)?);
        }
        drop(ended);
        // The first failure ends the session, rather than one thread less after the other.
        ends.iter().take(threads).collect::<io::Result<()>>()?;
        // What threads have of their own, queues to the device, is gone when this returns.
        for worker in workers {
            worker.join().map_err(|_| io::Error::other("a thread of the session panicked"))?;
        }
        Ok(())
    }
}

fn offer(asked: &InitIn, rest: &mut Arguments<'_>) -> io::Result<Offer> {
    let mut capabilities = Capabilities::from_bits_retain(asked.flags.into());
    if capabilities.contains(Capabilities::INIT_EXT) {
        let more: InitMore = rest.take()?;
        capabilities |= Capabilities::from_bits_retain(u64::from(more.flags2) << 32);
    }
    Ok(Offer { capabilities, max_readahead: asked.max_readahead })
}

/// What was asked for, as far as it is offered.
fn cut(wanted: &Agreement, offer: &Offer) -> Agreement {
    const ALWAYS: Capabilities = Capabilities::ASYNC_READ
        .union(Capabilities::BIG_WRITES)
        .union(Capabilities::MAX_PAGES)
        .union(Capabilities::INIT_EXT);
    let missing = wanted.capabilities.difference(offer.capabilities);
    if !missing.is_empty() {
        tracing::info!(?missing, "this kernel's FUSE lacks capabilities; going on without them");
    }
    Agreement {
        capabilities: (wanted.capabilities | ALWAYS) & offer.capabilities,
        max_readahead: wanted.max_readahead.min(offer.max_readahead),
        max_write: wanted.max_write.clamp(4096, LONGEST_WRITE),
        max_background: wanted.max_background.max(1),
        ..*wanted
    }
}

fn init_out(asked: &InitIn, agreed: &Agreement) -> InitOut {
    let [low, high] = [agreed.capabilities.bits(), agreed.capabilities.bits() >> 32]
        .map(|flags| u32::try_from(flags & u64::from(u32::MAX)).unwrap_or(0));
    let pages = agreed.max_write.max(agreed.max_readahead).div_ceil(4096);
    InitOut {
        major: MAJOR,
        minor: asked.minor.min(MINOR),
        max_readahead: agreed.max_readahead,
        flags: low,
        max_background: agreed.max_background,
        congestion_threshold: agreed.max_background,
        max_write: agreed.max_write,
        // Nanoseconds.
        time_granularity: 1,
        max_pages: u16::try_from(pages).unwrap_or(u16::MAX),
        flags2: high,
        max_stack_depth: agreed.max_stack_depth,
        ..InitOut::default()
    }
}
