//! The server: a device model behind a socket, for one client after the other.

mod foreign;
mod listener;
mod ranges;
mod session;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine_transport::Interrupt;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::model::DeviceModel;
use crate::server::listener::Listener;
use crate::server::session::{Handed, MOST_MESSAGE, Outcome, Session, wants_reply};
use crate::socket::{Message, Socket, SocketError};

pub use listener::ListenError;

/// How long a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From connecting until it has said which version it speaks.
    pub handshake: Duration,
    /// From the first byte of a message to its last, and for taking a reply.
    pub message: Duration,
}

impl Default for Patience {
    /// 5 s to begin, 2 s for a message.
    fn default() -> Self {
        Self { handshake: Duration::from_secs(5), message: Duration::from_secs(2) }
    }
}

/// A device behind a socket, for as long as this lives.
///
/// One client is served at a time; others wait until it has left. The device is reset in between. There is no limit
/// to how long a client may stay; but one that does not begin, or stops within a message, is dropped.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    stop: Interrupt,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `model` at `path`: the socket to make, or a directory, where the socket is named `cntrl` as clients
    /// expect it. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// Where somebody listens there already, something else lies there, or the socket cannot be made.
    pub fn start(path: &Path, model: Arc<dyn DeviceModel>) -> Result<Self, ListenError> {
        Self::start_with(path, model, Patience::default())
    }

    /// As [`start`](Self::start), with other limits for clients.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(
        path: &Path,
        model: Arc<dyn DeviceModel>,
        patience: Patience,
    ) -> Result<Self, ListenError> {
        let listener = Listener::bind(path)?;
        let socket = listener.path().to_owned();
        let failed = |action| {
            let path = socket.clone();
            move |source| ListenError::System { action, path, source }
        };
        let stop = Interrupt::new().map_err(failed("make an eventfd for"))?;
        let stopped = stop.another().map_err(failed("make an eventfd for"))?;
        let work = move || accept_all(&listener, model.as_ref(), &stopped, patience);
        let thread = thread::Builder::new().name("vfio-user-server".into()).spawn(work);
        let thread = thread.map_err(failed("start a thread for"))?;
        Ok(Self { socket, stop, thread: Some(thread) })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it still serves; it ends by itself only where the operating system leaves it no choice.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Server {
    /// Leaves the client, resets the device and removes the socket.
    fn drop(&mut self) {
        if self.stop.signal().is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn accept_all(listener: &Listener, model: &dyn DeviceModel, stop: &Interrupt, patience: Patience) {
    let stopped = |limit| stop.wait(limit).unwrap_or(true);
    loop {
        match listener.wait(stop.as_fd()) {
            Ok(true) => {}
            Ok(false) => return,
            Err(errno) => {
                tracing::error!(socket = %listener.path().display(), "cannot wait for clients: {errno}");
                return;
            }
        }
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => {
                tracing::info!(socket = %listener.path().display(), "a client has connected");
                let why = serve(client, model, stop.as_fd(), patience);
                tracing::info!(socket = %listener.path().display(), "the client has left: {why}");
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => {
                // Out of descriptors, perhaps: later there may be some.
                tracing::warn!(socket = %listener.path().display(), "cannot take a client: {errno}");
                if stopped(Duration::from_millis(200)) {
                    return;
                }
            }
        }
    }
}

/// Serves one client until it leaves, is dropped or the server stops; why that was.
fn serve(client: OwnedFd, model: &dyn DeviceModel, stop: BorrowedFd<'_>, patience: Patience) -> String {
    let socket = Socket::over(client);
    let mut session = Session::new(model);
    let handshake = Instant::now() + patience.handshake;
    let why = loop {
        let begin = (!session.is_negotiated()).then_some(handshake);
        let message = match socket.receive(begin, patience.message, MOST_MESSAGE, Some(stop)) {
            Ok(message) => message,
            Err(SocketError::Closed) => break "it closed the socket".to_owned(),
            Err(SocketError::Woken) => break "the server stops".to_owned(),
            Err(SocketError::Idle) => {
                break format!("dropped, since it did not say its version in {:?}", patience.handshake);
            }
            Err(error) => break format!("dropped: {error}"),
        };
        let Message { header, body, fds } = message;
        let outcome = session.handle(&header, &body, fds);
        let sent = match &outcome {
            Outcome::End(reason) => break format!("dropped: {reason}"),
            Outcome::Refuse(errno) => {
                tracing::debug!("a client's command {} is refused: {errno}", header.command);
                if !wants_reply(&header) {
                    continue;
                }
                let refusal = header.refusal(errno.raw_os_error());
                socket.send(&refusal, &[], &[], Instant::now() + patience.message)
            }
            Outcome::Reply(..) if !wants_reply(&header) => continue,
            Outcome::Reply(body, handed) => {
                let fds: Vec<BorrowedFd<'_>> = handed.iter().filter_map(Handed::fd).collect();
                let reply = header.reply(u32::try_from(body.len()).unwrap_or(u32::MAX));
                socket.send(&reply, &[body], &fds, Instant::now() + patience.message)
            }
        };
        if let Err(error) = sent {
            break format!("dropped: {error}");
        }
    };
    drop(socket);
    session.end();
    why
}

impl Handed {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Memory(region) => region.file().map(|(file, _)| file),
            Self::Socket(socket) => Some(socket.as_fd()),
        }
    }
}
