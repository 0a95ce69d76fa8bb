//! Asking the server: which reply belongs to which request, and what becomes of everyone when the server is gone.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use engine_dma::{AddressSpace, View, to_usize};
use engine_transport::TransportError;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use zerocopy::{FromBytes, IntoBytes};

use crate::client::Limits;
use crate::socket::{Message, Socket, SocketError};
use crate::wire::{Command, DmaAccess, HEADER, Header, flag};

/// Most data in one message, either way: the protocol's default.
pub(crate) const MOST_DATA: usize = 1 << 20;
/// Most bytes of a message that is taken from the server: data, what goes before it, and a little.
pub(crate) const MOST_MESSAGE: usize = HEADER + MOST_DATA + 1024;
/// Most requests whose replies were not waited for and may still come.
const MOST_ABANDONED: usize = 64;
/// Most ranges of memory that the server can be told of.
const MOST_MAPS: usize = 65_535;

/// Why nothing can be asked any more.
#[derive(Debug)]
enum Fate {
    Gone(String),
    Broken(String),
}

/// What arrived and what is expected.
#[derive(Debug, Default)]
struct Inbox {
    next: u16,
    /// Requests whose replies are waited for, and those replies that came.
    waiting: HashMap<u16, Option<Message>>,
    /// Requests that nobody waits for any more. Their numbers are not used again before their replies came.
    abandoned: HashSet<u16>,
    /// Whether a thread is reading from the socket.
    reading: bool,
}

/// The connection to one server, shared by all threads.
///
/// There is no thread that reads: whoever waits for a reply reads what comes and hands to others what is theirs.
#[derive(Debug)]
pub(crate) struct Line {
    device: String,
    limits: Limits,
    socket: Socket,
    /// Where the server asks, if not on the same socket.
    twin: OnceLock<Socket>,
    sending: Mutex<()>,
    inbox: Mutex<Inbox>,
    /// Signalled when a reply came, when nobody reads any more, and at the end.
    arrived: Condvar,
    fate: OnceLock<Fate>,
    /// What the server may read and write by messages, by bus address.
    memory: AddressSpace,
}

impl Line {
    pub(crate) fn new(device: String, socket: Socket, limits: Limits) -> Self {
        Self {
            device,
            limits,
            socket,
            twin: OnceLock::new(),
            sending: Mutex::default(),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            fate: OnceLock::new(),
            memory: AddressSpace::new(MOST_MAPS),
        }
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(crate) fn memory(&self) -> &AddressSpace {
        &self.memory
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn twin(&self) -> Option<&Socket> {
        self.twin.get()
    }

    /// Takes the socket on which the server asks.
    pub(crate) fn set_twin(&self, socket: Socket) {
        let _ = self.twin.set(socket);
    }

    /// Asks for `action` (a verb) and waits for the reply, which is no error.
    pub(crate) fn ask(
        &self,
        action: impl Fn() -> String,
        command: Command,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Message, TransportError> {
        let limit = self.limits.reply;
        let deadline = Instant::now() + limit;
        let id = self.expect()?;
        if let Err(error) = self.send(id, command, parts, fds, 0, deadline) {
            self.inbox().waiting.remove(&id);
            return Err(error);
        }
        let Some(reply) = self.reply_to(id, deadline)? else {
            return Err(TransportError::Late { device: self.device.clone(), action: action(), limit });
        };
        if reply.header.kind() != command {
            let reason = format!("it answers a command {} with one {}", command.0, reply.header.command);
            return Err(self.broken(reason));
        }
        if reply.header.has(flag::ERROR) {
            let errno = i32::try_from(reply.header.error.get()).ok().filter(|&errno| errno > 0);
            let source = io::Error::from_raw_os_error(errno.unwrap_or(Errno::IO.raw_os_error()));
            return Err(TransportError::Refused { device: self.device.clone(), action: action(), source });
        }
        Ok(reply)
    }

    /// Tells the server something that it does not answer, in order with everything else.
    pub(crate) fn tell(&self, command: Command, parts: &[&[u8]]) -> Result<(), TransportError> {
        let deadline = Instant::now() + self.limits.reply;
        // No reply, so the number need not differ from others.
        self.send(0, command, parts, &[], flag::NO_REPLY, deadline)
    }

    /// What is said of a server that does not keep to the protocol. It is not spoken to again.
    pub(crate) fn broken(&self, reason: String) -> TransportError {
        self.end(Fate::Broken(reason));
        self.over()
    }

    /// Reads what has come, without waiting for more.
    pub(crate) fn pump(&self) {
        let mut inbox = self.inbox();
        while inbox.reading && self.fate.get().is_none() {
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        if self.fate.get().is_none() {
            drop(self.read(inbox, Instant::now()));
        }
    }

    /// Whether nothing can be asked any more.
    pub(crate) fn is_over(&self) -> bool {
        self.fate.get().is_some()
    }

    /// Takes one command from the socket that the server asks on, where there is one.
    pub(crate) fn pump_twin(&self) {
        let Some(twin) = &self.twin.get() else { return };
        match twin.receive(Some(Instant::now()), self.limits.message, MOST_MESSAGE, None) {
            Ok(message) => self.answer(twin, &message),
            Err(SocketError::Idle | SocketError::Woken) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// Takes a number for a request whose reply is expected.
    fn expect(&self) -> Result<u16, TransportError> {
        if self.is_over() {
            return Err(self.over());
        }
        let mut inbox = self.inbox();
        for _ in 0..=u16::MAX {
            let id = inbox.next;
            inbox.next = id.wrapping_add(1);
            if !inbox.waiting.contains_key(&id) && !inbox.abandoned.contains(&id) {
                inbox.waiting.insert(id, None);
                return Ok(id);
            }
        }
        let source = io::Error::from(io::ErrorKind::WouldBlock);
        Err(TransportError::System { device: self.device.clone(), action: "ask more at a time", source })
    }

    fn send(
        &self,
        id: u16,
        command: Command,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        flags: u32,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        if self.is_over() {
            return Err(self.over());
        }
        let body = parts.iter().map(|part| part.len()).sum::<usize>();
        let header = Header::command(id, command, u32::try_from(body).unwrap_or(u32::MAX), flags);
        let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.socket.send(&header, parts, fds, deadline).map_err(|error| {
            self.failed(&error);
            self.over()
        })
    }

    /// Waits for the reply to request `id`; none where it is not there by the deadline.
    fn reply_to(&self, id: u16, deadline: Instant) -> Result<Option<Message>, TransportError> {
        let mut inbox = self.inbox();
        loop {
            if let Some(Some(_)) = inbox.waiting.get(&id) {
                return Ok(inbox.waiting.remove(&id).flatten());
            }
            if self.is_over() {
                inbox.waiting.remove(&id);
                drop(inbox);
                return Err(self.over());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                inbox.waiting.remove(&id);
                inbox.abandoned.insert(id);
                let many = inbox.abandoned.len() > MOST_ABANDONED;
                drop(inbox);
                if many {
                    return Err(self.broken(format!("it owes the answers to {MOST_ABANDONED} requests")));
                }
                return Ok(None);
            }
            if inbox.reading {
                let waited = self.arrived.wait_timeout(inbox, left);
                (inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
            } else {
                inbox = self.read(inbox, deadline);
            }
        }
    }

    /// Reads one message, if one begins before the deadline, and puts it where it belongs.
    fn read<'a>(&'a self, mut inbox: MutexGuard<'a, Inbox>, begin: Instant) -> MutexGuard<'a, Inbox> {
        inbox.reading = true;
        drop(inbox);
        let came = self.socket.receive(Some(begin), self.limits.message, MOST_MESSAGE, None);
        let mut reply = None;
        match came {
            Ok(message) => match message.header.is_reply() {
                Some(true) => reply = Some(message),
                Some(false) => self.answer(&self.socket, &message),
                None => drop(self.broken("it sends a message that is neither command nor reply".into())),
            },
            Err(SocketError::Idle | SocketError::Woken) => {}
            Err(error) => self.failed(&error),
        }
        let mut inbox = self.inbox();
        inbox.reading = false;
        if let Some(reply) = reply {
            let id = reply.header.id.get();
            let given_up = inbox.abandoned.remove(&id);
            match inbox.waiting.get_mut(&id) {
                Some(place @ None) => *place = Some(reply),
                None if given_up => {}
                _ => self.broken_while(format!("it answers request {id}, which is not open")),
            }
        }
        self.arrived.notify_all();
        inbox
    }

    /// Does what the server asks for.
    fn answer(&self, socket: &Socket, message: &Message) {
        let deadline = Instant::now() + self.limits.message;
        let answer = match message.header.kind() {
            _ if !message.fds.is_empty() => Err(Errno::INVAL),
            Command::DMA_READ => self.read_memory(&message.body),
            Command::DMA_WRITE => self.write_memory(&message.body),
            _ => Err(Errno::NOSYS),
        };
        if message.header.has(flag::NO_REPLY) {
            return;
        }
        let (header, body) = match answer {
            Ok(body) => (message.header.reply(u32::try_from(body.len()).unwrap_or(u32::MAX)), body),
            Err(errno) => (message.header.refusal(errno.raw_os_error()), Vec::new()),
        };
        let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = socket.send(&header, &[&body], &[], deadline) {
            self.failed(&error);
        }
    }

    fn read_memory(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let access = DmaAccess::read_from_bytes(body).map_err(|_| Errno::INVAL)?;
        let count = to_usize(access.count.get());
        if count > MOST_DATA {
            return Err(Errno::INVAL);
        }
        let mut data = vec![0; count];
        let mut view = View::new();
        view.refresh(&self.memory);
        view.read(access.address.get(), &mut data).map_err(|_| Errno::FAULT)?;
        Ok([access.as_bytes(), &data].concat())
    }

    fn write_memory(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let (access, data) = DmaAccess::read_from_prefix(body).map_err(|_| Errno::INVAL)?;
        if to_usize(access.count.get()) != data.len() {
            return Err(Errno::INVAL);
        }
        let mut view = View::new();
        view.refresh(&self.memory);
        view.write(access.address.get(), data).map_err(|_| Errno::FAULT)?;
        Ok(access.as_bytes().to_vec())
    }

    fn failed(&self, error: &SocketError) {
        self.end(match error {
            SocketError::Size { .. } | SocketError::Descriptors | SocketError::Stalled { .. } => {
                Fate::Broken(error.to_string())
            }
            SocketError::System(source) => Fate::Gone(format!("{error}: {source}")),
            _ => Fate::Gone(error.to_string()),
        });
    }

    fn end(&self, fate: Fate) {
        let inbox = self.inbox();
        self.end_with(fate);
        drop(inbox);
    }

    /// As [`broken`](Self::broken), for those who hold the inbox.
    fn broken_while(&self, reason: String) {
        self.end_with(Fate::Broken(reason));
    }

    /// Called with the inbox held, so that nobody who is about to wait misses it.
    fn end_with(&self, fate: Fate) {
        if self.fate.set(fate).is_ok() {
            // Whoever reads wakes up, and the other side learns of it.
            let _ = shutdown(&self.socket, Shutdown::Both);
            self.arrived.notify_all();
        }
    }

    fn over(&self) -> TransportError {
        let device = self.device.clone();
        match self.fate.get() {
            Some(Fate::Broken(reason)) => TransportError::Protocol { device, reason: reason.clone() },
            Some(Fate::Gone(reason)) => TransportError::Gone { device, reason: reason.clone() },
            None => TransportError::Gone { device, reason: "the connection has ended".into() },
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much is left of a time span that began at `start`.
pub(crate) fn left(start: Instant, limit: Duration) -> Duration {
    limit.saturating_sub(start.elapsed())
}
