//! A client that sends whatever a test wants.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use engine_vfio_user::wire::{Capabilities, Command, Header, flag, write_version};
use engine_vfio_user::{Message, Socket, SocketError};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zerocopy::IntoBytes;

pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
    socket: Socket,
    next: u16,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) fn silent(path: &Path) -> Self {
        let stream = UnixStream::connect(path.join("cntrl")).unwrap();
        let socket = Socket::over(stream.try_clone().unwrap().into());
        Self { stream, socket, next: 1 }
    }

    /// Connects and agrees on a version.
    pub(crate) fn connect(path: &Path) -> Self {
        let mut raw = Self::silent(path);
        let version = write_version(0, 1, &Capabilities::default());
        raw.ask(Command::VERSION, &version).unwrap();
        raw
    }

    /// Sends these bytes, with these descriptors.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The bytes of a command.
    pub(crate) fn message(&mut self, command: Command, body: &[u8], flags: u32) -> Vec<u8> {
        let header = Header::command(self.next, command, u32::try_from(body.len()).unwrap(), flags);
        self.next = self.next.wrapping_add(1);
        [header.as_bytes(), body].concat()
    }

    /// What is answered to a command: the body, or an errno.
    pub(crate) fn ask(&mut self, command: Command, body: &[u8]) -> Result<Message, i32> {
        self.ask_with(command, body, &[])
    }

    pub(crate) fn ask_with(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[&OwnedFd],
    ) -> Result<Message, i32> {
        let message = self.message(command, body, 0);
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.send(&message, &fds).unwrap();
        let reply = self.receive().expect("an answer");
        assert_eq!(reply.header.id.get(), self.next.wrapping_sub(1));
        assert_eq!((reply.header.kind(), reply.header.is_reply()), (command, Some(true)));
        if reply.header.has(flag::ERROR) {
            assert!(reply.body.is_empty() && reply.fds.is_empty());
            return Err(reply.header.error.get().try_into().unwrap());
        }
        Ok(reply)
    }

    pub(crate) fn receive(&self) -> Result<Message, SocketError> {
        let begin = Some(Instant::now() + Duration::from_secs(5));
        self.socket.receive(begin, Duration::from_secs(5), 1 << 21, None)
    }
}

/// The bytes of several values after one another.
pub(crate) fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
