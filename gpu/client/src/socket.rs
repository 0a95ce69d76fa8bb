//! Requests and answers on the daemon's socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use homi_abi::session::{MAGIC, MESSAGE_MAX, Message, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ClientError;

/// How long the daemon may take for an answer. Taking a file back waits for commands in flight, which have deadlines
/// of their own below this one.
const PATIENCE: Duration = Duration::from_secs(30);
/// As above, for walks over trees of millions of files.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Most descriptors that one answer carries.
const MOST_DESCRIPTORS: usize = 4;

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    next: u64,
}

/// An answer, and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) body: T,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Socket {
    pub(crate) fn connect(path: &Path) -> Result<Self, ClientError> {
        let address = SocketAddrUnix::new(path).map_err(ClientError::system("name the daemon's socket"))?;
        let descriptor = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(ClientError::system("make a socket"))?;
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&descriptor, timeout, Some(PATIENCE))
                .map_err(ClientError::system("set the socket's patience"))?;
        }
        connect(&descriptor, &address).map_err(|error| ClientError::NotServed {
            path: path.display().to_string(),
            reason: format!("nobody answers there ({error}); is the mount's daemon alive?"),
        })?;
        Ok(Self { descriptor, next: 1 })
    }

    /// Closes the connection for good.
    pub(crate) fn end(&mut self) {
        // One that is closed already is what was wanted.
        let _ = rustix::net::shutdown(&self.descriptor, rustix::net::Shutdown::Both);
    }

    /// Whether the daemon has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        let mut sockets = [PollFd::new(&self.descriptor, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut sockets, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask<Q, A>(
        &mut self,
        kind: u16,
        request: &Q,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Answer<A>, ClientError>
    where
        Q: IntoBytes + Immutable,
        A: FromBytes + KnownLayout + Immutable,
    {
        let id = self.next;
        self.next += 1;
        let mut packet = Vec::with_capacity(MESSAGE_MAX);
        let length = size_of::<Message>() + size_of::<Q>();
        let header = Message {
            magic: MAGIC,
            version: VERSION.into(),
            kind: kind.into(),
            length: u32::try_from(length).unwrap_or(u32::MAX).into(),
            error: 0.into(),
            id: id.into(),
        };
        packet.extend_from_slice(header.as_bytes());
        packet.extend_from_slice(request.as_bytes());
        self.send(&packet, descriptors)?;
        self.receive(kind, id)
    }

    /// As [`ask`](Self::ask), for what takes the daemon a while.
    pub(crate) fn ask_slowly<Q, A>(&mut self, kind: u16, request: &Q) -> Result<Answer<A>, ClientError>
    where
        Q: IntoBytes + Immutable,
        A: FromBytes + KnownLayout + Immutable,
    {
        self.set_patience(LONG_PATIENCE)?;
        let answer = self.ask(kind, request, &[]);
        self.set_patience(PATIENCE)?;
        answer
    }

    fn set_patience(&self, time: Duration) -> Result<(), ClientError> {
        set_socket_timeout(&self.descriptor, Timeout::Recv, Some(time))
            .map_err(ClientError::system("set the socket's patience"))
    }

    fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ClientError::Invalid("more descriptors than a request can carry".into()));
        }
        let sent = sendmsg(&self.descriptor, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL);
        sent.map(drop).map_err(ClientError::system("send a request to the daemon"))
    }

    fn receive<A>(&self, kind: u16, id: u64) -> Result<Answer<A>, ClientError>
    where
        A: FromBytes + KnownLayout + Immutable,
    {
        let protocol = |text: String| ClientError::Protocol(text);
        let mut packet = [0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.descriptor,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(ClientError::system("hear the daemon's answer"))?;
        let descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if received.bytes == 0 {
            return Err(protocol("it closed the connection".into()));
        }
        let packet = &packet[..received.bytes];
        let (header, rest) =
            Message::read_from_prefix(packet).map_err(|_| protocol("shorter than a header".into()))?;
        if header.magic != MAGIC || header.version.get() != VERSION {
            return Err(protocol(format!("not of version {VERSION}")));
        }
        if header.kind.get() != kind || header.id.get() != id {
            return Err(protocol("it belongs to another request".into()));
        }
        if header.error.get() != 0 {
            let errno = i32::try_from(header.error.get()).unwrap_or(i32::MAX);
            return Err(ClientError::Refused { errno, text: String::from_utf8_lossy(rest).into_owned() });
        }
        let (body, _) = A::read_from_prefix(rest)
            .map_err(|_| protocol(format!("{} bytes where {} were expected", rest.len(), size_of::<A>())))?;
        Ok(Answer { body, descriptors })
    }
}
