//! Where clients come in.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use homifs_core::{Caller, Clients, Homifs};
use homifs_peer::peer_of;
use rustix::fs::{Mode, chmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use tokio::io::Interest;
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::ClientLimits;
use crate::budget::{Budget, Purse};
use crate::crew::Crew;
use crate::guests::{Guests, TurnedAway};
use crate::ledger::Ledger;
use crate::metrics;
use crate::packet::registered;
use crate::session::Session;

/// Where sockets lie.
const FOLDER: &str = "/run/homifs";
/// Connections that wait to be let in.
const BACKLOG: i32 = 64;
/// What it costs to let somebody in, or to turn somebody away.
const ACCEPTING: Duration = Duration::from_micros(30);
/// How long nobody is let in after a user was turned away who took more than is his.
const TURNING_AWAY: Duration = Duration::from_millis(1);
/// How long the end of a server waits for sessions to give everything back.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Why clients cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} to serve clients at {path}")]
pub struct ServerError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Serves clients of one mount, until it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: watch::Sender<bool>,
    control: Option<JoinHandle<()>>,
    crew: Arc<Crew>,
}

/// What the file system asks of us.
#[derive(Debug)]
struct Door {
    crew: Arc<Crew>,
    ledger: Arc<Ledger>,
}

impl Clients for Door {
    fn revoke(&self, inode: u64) -> usize {
        self.crew.clients().iter().map(|client| client.revoke(inode)).sum()
    }

    fn grown(&self, inode: u64) {
        for client in self.crew.clients().iter() {
            client.grown(inode);
        }
    }

    fn write_metrics(&self, text: &mut String) {
        let (statements, gone) = self.ledger.statements();
        metrics::write(text, &statements, gone);
    }
}

impl Server {
    /// Listens for clients of `homifs`, whose commands `threads` threads carry out; with 0, callers of
    /// [`work`](Self::work) do.
    ///
    /// # Errors
    /// Where there is no socket, no thread or no random number to be had.
    pub fn start(homifs: &Arc<Homifs>, threads: usize, limits: ClientLimits) -> Result<Self, ServerError> {
        let path =
            Path::new(FOLDER).join(format!("{}-{}.sock", std::process::id(), crate::client::next_number()));
        let failed = |action| {
            let path = path.clone();
            move |source: io::Error| ServerError { action, path, source }
        };
        std::fs::create_dir_all(FOLDER).map_err(failed("make the folder"))?;
        let listener = listen_at(&path).map_err(failed("listen"))?;
        let crew = Arc::new(Crew::start(threads).map_err(failed("start threads"))?);
        let ledger = Arc::<Ledger>::default();
        let door = Arc::new(Door { crew: Arc::clone(&crew), ledger: Arc::clone(&ledger) });
        homifs
            .open_door(path.clone(), door)
            .map_err(|error| failed("make a key")(io::Error::other(error.to_string())))?;
        let (stop, stopped) = watch::channel(false);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("clients-aside")
            .build()
            .map_err(failed("start a runtime"))?;
        let workers = threads.max(1);
        let session =
            Session { homifs: Arc::clone(homifs), crew: Arc::clone(&crew), workers, limits, ledger };
        let control = thread::Builder::new()
            .name("clients".into())
            .spawn(move || {
                let served = runtime.block_on(serve(listener, session, stopped));
                if let Err(error) = served {
                    tracing::error!(%error, "clients are not served any more");
                }
                runtime.shutdown_timeout(END_LIMIT);
            })
            .map_err(failed("start a thread"))?;
        Ok(Self { path, stop, control: Some(control), crew })
    }

    /// Where there are no threads: works once for every client; whether there was anything to do.
    pub fn work(&self) -> bool {
        self.crew.work()
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.stop.send(true);
        if let Some(control) = self.control.take()
            && control.join().is_err()
        {
            tracing::error!("the thread that served clients had panicked");
        }
        self.crew.end();
    }
}

fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    // Who may come in is decided by who they are, for each file.
    chmod(path, Mode::from_raw_mode(0o666))?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

async fn serve(listener: OwnedFd, session: Session, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let listener = registered(listener)?;
    let guests = Guests::new(session.limits.clients);
    let budget = Budget::new(Arc::clone(&guests));
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.async_io(Interest::READABLE, |listener| {
                Ok(accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
            }) => accepted,
        };
        let accepted = accepted.and_then(|socket| Ok((peer_of(&socket)?, socket)));
        let (peer, socket) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, for example: that passes.
                tracing::warn!(%error, "a client could not be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let purse = budget.purse(peer.uid);
        purse.charge(ACCEPTING);
        let place = match guests.let_in(peer.uid) {
            Ok(place) => place,
            Err(TurnedAway::Full) => {
                let clients = session.limits.clients;
                tracing::warn!(clients, "a client was turned away: there are as many as may be");
                rest_from(&purse).await;
                continue;
            }
            Err(TurnedAway::Greedy) => {
                // Whoever tries it again and again fills no log.
                tracing::debug!(uid = peer.uid, "a client was turned away: its user has half of all places");
                rest_from(&purse).await;
                continue;
            }
        };
        let caller = Caller { uid: peer.uid, gid: peer.gid, pid: peer.pid, groups: Some(peer.groups) };
        let (session, stopped) = (session.clone(), stopped.clone());
        tokio::spawn(async move {
            session.run(socket, caller, purse, stopped).await;
            drop(place);
        });
    }
    // Sessions see the same signal; they are given the time to put everything back.
    let start = tokio::time::Instant::now();
    while guests.are_there() && start.elapsed() < END_LIMIT {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Lets the mediators have the processor, where a user who is turned away comes again and again.
async fn rest_from(purse: &Purse) {
    if !purse.wait().is_zero() {
        tokio::time::sleep(TURNING_AWAY).await;
    }
}
