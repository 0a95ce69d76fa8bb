//! One client's conversation.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine_dma::{Region, to_u64};
use homi_abi::session::{
    BufferReply, BufferRequest, CloseRequest, Handle, IdentifyRequest, MAGIC, Message, QueuesRequest,
    VERSION, kind,
};
use homifs_core::{Caller, Homifs};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ClientLimits;
use crate::budget::{Meter, Purse};
use crate::client::{Client, next_number};
use crate::crew::Crew;
use crate::ledger::Ledger;
use crate::packet::{Connection, Packet, registered};
use crate::refusal::Refusal;

/// How long somebody who came in may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may leave an answer lying that finds no room among those that it did not read.
const READ_LIMIT: Duration = Duration::from_secs(3);

/// How long the mediators may take to let go of a client that is gone, and how often that is looked at.
const LETTING_GO: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(1);

/// A client that has come in: whom it talks to.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) homifs: Arc<Homifs>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) workers: usize,
    pub(crate) limits: ClientLimits,
    pub(crate) ledger: Arc<Ledger>,
}

/// What is sent back: the body, and descriptors of these.
struct Answer {
    body: Vec<u8>,
    regions: Vec<Arc<Region>>,
    file: Option<OwnedFd>,
    wake: bool,
}

impl Answer {
    fn plain(body: &(impl IntoBytes + Immutable)) -> Self {
        Self { body: body.as_bytes().to_vec(), regions: Vec::new(), file: None, wake: false }
    }
}

impl Session {
    /// Answers requests until the client goes, or everybody must.
    pub(crate) async fn run(
        self,
        socket: OwnedFd,
        caller: Caller,
        purse: Purse,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut client = None;
        let outcome =
            paid_by(&purse, self.converse(socket, &caller, &purse, &mut stopped, &mut client)).await;
        let Some(client) = client else {
            if let Err(error) = outcome {
                tracing::debug!(uid = caller.uid, pid = caller.pid, %error, "somebody came in and went");
            }
            return;
        };
        if let Err(error) = outcome {
            tracing::debug!(client = client.id, %error, "a client's conversation ended");
        }
        // Those who work for it bring its commands to their end.
        let id = client.id;
        let (ending, paying, over) = (Arc::clone(&client), purse.clone(), stopped.clone());
        let _ = spawn_blocking(move || paying.pay(|_| ending.end(|| *stopped.borrow()))).await;
        self.crew.remove(id);
        // Whoever is the last to have it unmaps its memory, which a mediator should not have to.
        let since = Instant::now();
        while Arc::strong_count(&client) > 1 && since.elapsed() < LETTING_GO && !*over.borrow() {
            sleep(GLANCE).await;
        }
        let _ = spawn_blocking(move || purse.pay(|_| drop(client))).await;
    }

    async fn converse(
        &self,
        socket: OwnedFd,
        caller: &Caller,
        purse: &Purse,
        stopped: &mut watch::Receiver<bool>,
        client: &mut Option<Arc<Client>>,
    ) -> io::Result<()> {
        let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, what.to_owned());
        let hello_until = Instant::now() + HELLO_LIMIT;
        let connection = Connection::new(socket)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut wake = registered(wake)?;
        loop {
            let wait = purse.wait();
            if !wait.is_zero() {
                // Its wakes would wake this thread, too, which nothing that is counted would show.
                let descriptor = wake.into_inner();
                tokio::select! {
                    _ = stopped.changed() => return Ok(()),
                    () = sleep(wait) => {}
                }
                wake = registered(descriptor)?;
                continue;
            }
            let packet = tokio::select! {
                // What has arrived counts, however long we let it lie.
                biased;
                _ = stopped.changed() => return Ok(()),
                packet = connection.receive() => packet?,
                woken = wake.async_io(Interest::READABLE, |wake| {
                    Ok(rustix::io::read(wake, &mut [0_u8; 8])?)
                }) => {
                    woken?;
                    self.crew.wake();
                    continue;
                }
                () = sleep_until(hello_until), if client.is_none() => return Err(late("nobody said hello")),
            };
            let Some(packet) = packet else { return Ok(()) };
            let Some((header, answer)) = self.answer(packet, caller, purse, client, stopped).await else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is no request"));
            };
            tokio::select! {
                biased;
                sent = timeout(READ_LIMIT, reply(&connection, &wake, header, answer)) => {
                    sent.map_err(|_| late("the client does not read its answers"))??;
                }
                _ = stopped.changed() => return Ok(()),
            }
        }
    }

    /// What is answered to a packet; nothing where it is no request at all.
    async fn answer(
        &self,
        packet: Packet,
        caller: &Caller,
        purse: &Purse,
        client: &mut Option<Arc<Client>>,
        stopped: &watch::Receiver<bool>,
    ) -> Option<(Message, Result<Answer, Refusal>)> {
        let (header, body) = Message::read_from_prefix(&packet.bytes).ok()?;
        if header.magic != MAGIC || u64::from(header.length.get()) != to_u64(packet.bytes.len()) || packet.cut
        {
            return None;
        }
        if header.version.get() != VERSION {
            let text = format!("version {} is not spoken here, only {VERSION}", header.version.get());
            return Some((header, Err(Refusal::new(libc::EPROTONOSUPPORT, text))));
        }
        let (kind, body, descriptors) = (header.kind.get(), body.to_vec(), packet.descriptors);
        let Some(known) = client.clone() else {
            if kind != kind::HELLO {
                return Some((header, Err(Refusal::new(libc::EPROTO, "say hello first".into()))));
            }
            let (homifs, caller) = (Arc::clone(&self.homifs), caller.clone());
            let (limits, workers) = (self.limits, self.workers);
            let ledger = Arc::clone(&self.ledger);
            let make =
                move |_: &Meter<'_>| Client::new(next_number(), homifs, caller, limits, workers, ledger);
            let made = in_the_background(purse, make).await;
            let answer = made.map(|made| {
                let made = Arc::new(made);
                let (welcome, status) = made.welcome();
                self.crew.add(Arc::clone(&made));
                *client = Some(made);
                Answer { regions: vec![status], wake: true, ..Answer::plain(&welcome) }
            });
            return Some((header, answer));
        };
        let stopped = stopped.clone();
        let work = move |meter: &Meter<'_>| {
            let stop = || {
                meter.pace();
                *stopped.borrow()
            };
            carry_out(&known, kind, &body, descriptors, stop)
        };
        let answer = in_the_background(purse, work).await;
        Some((header, answer))
    }
}

/// What a conversation costs this thread is its user's to pay, too.
async fn paid_by<T>(purse: &Purse, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| purse.pay(|_| work.as_mut().poll(context))).await
}

/// Does what may wait (for commands in flight) where it holds nobody up.
async fn in_the_background<T: Send + 'static>(
    purse: &Purse,
    work: impl FnOnce(&Meter<'_>) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let purse = purse.clone();
    spawn_blocking(move || purse.pay(work))
        .await
        .unwrap_or_else(|_| Err(Refusal::new(libc::EIO, "the request could not be done".into())))
}

fn carry_out(
    client: &Client,
    kind: u16,
    body: &[u8],
    descriptors: Vec<OwnedFd>,
    stop: impl Fn() -> bool,
) -> Result<Answer, Refusal> {
    let nothing = || Answer::plain(&());
    match kind {
        kind::HELLO => Err(Refusal::new(libc::EPROTO, "hello was said already".into())),
        kind::QUEUES => {
            let (queues, regions) = client.make_queues(&parse::<QueuesRequest>(body)?)?;
            Ok(Answer { regions: regions.into(), ..Answer::plain(&queues) })
        }
        kind::BUFFER => {
            let request = parse::<BufferRequest>(body)?;
            let [memory] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| {
                Refusal::new(libc::EINVAL, "one descriptor, of the memory, belongs to this request".into())
            })?;
            Ok(Answer::plain(&client.register(&request, memory)?))
        }
        kind::RELEASE => client.release(&parse::<BufferReply>(body)?).map(|()| nothing()),
        kind::OPEN => Ok(Answer::plain(&client.open(&parse::<Handle>(body)?)?)),
        kind::SNAPSHOT => {
            let (reply, arena) = client.snapshot(&parse::<Handle>(body)?, stop)?;
            Ok(Answer { file: Some(arena), ..Answer::plain(&reply) })
        }
        kind::CLOSE => client.close(parse::<CloseRequest>(body)?.nsid.get()).map(|()| nothing()),
        kind::IDENTIFY => Ok(Answer::plain(&client.identify(parse::<IdentifyRequest>(body)?.nsid.get())?)),
        other => Err(Refusal::new(libc::EOPNOTSUPP, format!("there is no request of kind {other}"))),
    }
}

fn parse<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> Result<T, Refusal> {
    T::read_from_bytes(body).map_err(|_| {
        let text = format!("the request has {} bytes where {} were expected", body.len(), size_of::<T>());
        Refusal::new(libc::EINVAL, text)
    })
}

async fn reply(
    connection: &Connection,
    wake: &AsyncFd<OwnedFd>,
    request: Message,
    answer: Result<Answer, Refusal>,
) -> io::Result<()> {
    let (error, Answer { body, regions, file, wake: with_wake }) = match answer {
        Ok(answer) => (0, answer),
        Err(Refusal { errno, text }) => {
            (errno.unsigned_abs(), Answer { body: text.into_bytes(), ..Answer::plain(&()) })
        }
    };
    let length = u32::try_from(size_of::<Message>() + body.len()).unwrap_or(u32::MAX);
    let header = Message { length: length.into(), error: error.into(), ..request };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let files = regions.iter().filter_map(|region| region.file().map(|(file, _)| file));
    let files = files.chain(file.as_ref().map(AsFd::as_fd));
    let descriptors: Vec<BorrowedFd<'_>> = files.chain(with_wake.then(|| wake.get_ref().as_fd())).collect();
    connection.send(&bytes, &descriptors).await
}
