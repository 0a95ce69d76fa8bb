//! Whole messages, with their descriptors, over a UNIX stream socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use engine_dma::to_usize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::wire::{HEADER, Header};

/// Most descriptors that come or go with one message.
pub const MOST_FDS: usize = 16;

/// How long to look again and again before sleeping: whoever asks or answers once mostly does so again at once, and
/// waking up takes longer than this where a processor that has nothing to do is put to sleep (45 us in a virtual
/// machine).
const SPIN: Duration = Duration::from_micros(30);

/// A message as it came.
#[derive(Debug)]
pub struct Message {
    /// Its header; the size agrees with the body.
    pub header: Header,
    /// What follows the header.
    pub body: Vec<u8>,
    /// The descriptors that came along, at most [`MOST_FDS`]. Those that nobody takes are closed.
    pub fds: Vec<OwnedFd>,
}

/// Why no message came or went.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The other side closed the socket, between two messages.
    #[error("the other side closed the socket")]
    Closed,
    /// The other side closed the socket within a message.
    #[error("the other side closed the socket after {0} bytes of a message")]
    Cut(usize),
    /// Nothing came before the deadline.
    #[error("nothing came in time")]
    Idle,
    /// The descriptor that interrupts waiting became readable.
    #[error("waiting was interrupted")]
    Woken,
    /// A message did not come or go as a whole in time.
    #[error("a message of {size} bytes stopped after {done} of them")]
    Stalled {
        /// Bytes that came or went.
        done: usize,
        /// Bytes of the message, as far as known.
        size: usize,
    },
    /// The size in a header is none that a message can have.
    #[error("a message says that it has {size} bytes; one has {HEADER} to {most}")]
    Size {
        /// What it says.
        size: u32,
        /// The bound.
        most: usize,
    },
    /// More descriptors came than may.
    #[error("more than {MOST_FDS} descriptors came with a message")]
    Descriptors,
    /// The operating system refused.
    #[error("the socket failed")]
    System(#[from] io::Error),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Over a connected stream socket.
    #[must_use]
    pub fn over(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sends one message: the header, then `parts`, with `fds` going along. Only one thread at a time may.
    ///
    /// # Errors
    /// Where the other side is gone, or does not take all of it before `deadline`: then part of it may have gone, and
    /// nothing more can be sent.
    pub fn send(
        &self,
        header: &Header,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), SocketError> {
        let size = to_usize(u64::from(header.size.get()));
        debug_assert_eq!(size, HEADER + parts.iter().map(|part| part.len()).sum::<usize>());
        let mut done = 0;
        while done < size {
            // Others' servers and clients take a message with one read(2), so it goes with one write.
            let mut slices = Vec::with_capacity(1 + parts.len());
            let mut skip = done;
            for part in std::iter::once(header.as_bytes()).chain(parts.iter().copied()) {
                slices.push(IoSlice::new(part.get(skip..).unwrap_or_default()));
                skip = skip.saturating_sub(part.len());
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if done == 0 && !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(SocketError::Descriptors);
            }
            match sendmsg(&self.fd, &slices, &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => done += sent,
                Err(Errno::AGAIN) => self
                    .wait(PollFlags::OUT, Some(deadline), None)
                    .map_err(|error| late(error, SocketError::Stalled { done, size }))?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(SocketError::Closed),
                Err(error) => return Err(SocketError::System(error.into())),
            }
        }
        Ok(())
    }

    /// Receives one message of at most `most` bytes. Waits until `begin` (for ever where there is none) for it to
    /// begin, or until `wake` is readable; once begun, it must be whole within `limit`. Only one thread at a time may.
    ///
    /// # Errors
    /// [`SocketError::Idle`] and [`SocketError::Woken`] where nothing began. After any other error nothing more can
    /// be received.
    pub fn receive(
        &self,
        begin: Option<Instant>,
        limit: Duration,
        most: usize,
        wake: Option<BorrowedFd<'_>>,
    ) -> Result<Message, SocketError> {
        let mut header = Header::new_zeroed();
        let mut fds = Vec::new();
        let mut done = 0;
        let start = Instant::now();
        while done == 0 {
            match self.take(header.as_mut_bytes(), &mut fds)? {
                Some(0) => return Err(SocketError::Closed),
                Some(taken) => done = taken,
                None if start.elapsed() < SPIN && begin.is_none_or(|begin| start < begin) => {
                    thread::yield_now();
                }
                None => self.wait(PollFlags::IN, begin, wake)?,
            }
        }
        let deadline = Instant::now() + limit;
        self.fill(header.as_mut_bytes(), done, HEADER, deadline, &mut fds)?;
        let size = to_usize(u64::from(header.size.get()));
        if size < HEADER || size > most {
            return Err(SocketError::Size { size: header.size.get(), most });
        }
        let mut body = vec![0; size - HEADER];
        self.fill(&mut body, 0, size, deadline, &mut fds)?;
        Ok(Message { header, body, fds })
    }

    /// Fills `target` from byte `done` on; the message has `size` bytes as far as known.
    fn fill(
        &self,
        target: &mut [u8],
        mut done: usize,
        size: usize,
        deadline: Instant,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<(), SocketError> {
        while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.take(rest, fds)? {
                Some(0) => return Err(SocketError::Cut(done)),
                Some(taken) => done += taken,
                None => self
                    .wait(PollFlags::IN, Some(deadline), None)
                    .map_err(|error| late(error, SocketError::Stalled { done, size }))?,
            }
        }
        Ok(())
    }

    /// Takes what is there, if anything is: how many bytes, zero where the other side closed.
    fn take(&self, target: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<Option<usize>, SocketError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let taken = match recvmsg(&self.fd, &mut [IoSliceMut::new(target)], &mut control, flags) {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(Errno::CONNRESET) => return Ok(Some(0)),
            Err(error) => return Err(SocketError::System(error.into())),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        // What did not fit the kernel has closed, what came is closed when the list is dropped.
        if taken.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MOST_FDS {
            return Err(SocketError::Descriptors);
        }
        Ok(Some(taken.bytes))
    }

    /// Waits until the socket is ready for `what` (or closed), `wake` is readable, or the deadline.
    fn wait(
        &self,
        what: PollFlags,
        deadline: Option<Instant>,
        wake: Option<BorrowedFd<'_>>,
    ) -> Result<(), SocketError> {
        let limit = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(SocketError::Idle),
            Some(left) => Timespec::try_from(left).ok(),
            None => None,
        };
        let mut polled = vec![PollFd::new(&self.fd, what)];
        polled.extend(wake.map(|wake| PollFd::from_borrowed_fd(wake, PollFlags::IN)));
        match poll(&mut polled, limit.as_ref()) {
            // The caller's clock decides whether it is late.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(SocketError::System(error.into())),
        }
        if polled.get(1).is_some_and(|wake| !wake.revents().is_empty()) {
            return Err(SocketError::Woken);
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn late(error: SocketError, stalled: SocketError) -> SocketError {
    match error {
        SocketError::Idle => stalled,
        other => other,
    }
}
