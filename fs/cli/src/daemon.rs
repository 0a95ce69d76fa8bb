//! Serves a mount until it is unmounted.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use homifs_clients::{ClientLimits, Server};
use homifs_core::{Homifs, VolumeParts};
use homifs_fuse::Unmounter;
use homifs_lower::Lower;
use homifs_options::{ClientOptions, MountOptions};
use nix::sys::signal::{SigSet, Signal};

use crate::Result;
use crate::failure::{Failure, exit};
use crate::{utab, volume};

/// Mounts and serves. `ready` is called once, when the mount answers, with a line that describes it.
pub(crate) fn serve(
    spec: &str,
    directory: &Path,
    options: &MountOptions,
    ready: impl FnOnce(&str) -> Result,
) -> Result {
    // Before the first thread starts, so that all of them inherit it.
    let signals = block_signals()?;
    let opened = Opened::new(spec, options)?;
    let summary = opened.summary(spec, directory);
    let homifs = Homifs::new(opened.parts, spec.to_owned(), options.clone());
    let clients = serve_clients(&homifs, options)?;
    let mounted = match &opened.lower {
        None => homifs_fuse::mount(&homifs, directory),
        Some(lower) => homifs_fuse::mount_writable(&homifs, lower, directory),
    };
    let mounted = mounted.map_err(|error| Failure::mount(&error))?;
    let unmounter = mounted.unmounter();
    unmount_on_signal(signals, unmounter.clone())?;
    let serving = thread::Builder::new().name("homifs-session".into()).spawn(move || mounted.run());
    let serving = serving.map_err(|error| system("cannot start a thread", &error))?;
    // Answered by the threads that serve, so this returns when they do.
    if let Err(error) = rustix::fs::statfs(unmounter.mountpoint()) {
        let _ = unmounter.unmount(true);
        return Err(Failure::new(
            exit::MOUNT,
            format!("the mount on {} does not answer: {error}", directory.display()),
        ));
    }
    tracing::info!("{summary}");
    utab::note(spec.as_ref(), unmounter.mountpoint());
    if let Err(failure) = ready(&summary) {
        let _ = unmounter.unmount(true);
        return Err(failure);
    }
    let served = serving.join();
    utab::forget(unmounter.mountpoint());
    // Clients are sent away before the volume goes.
    drop(clients);
    let ended = served.map_err(|_| Failure::new(exit::SYSTEM, "the session ended in a panic"))?;
    ended.map_err(|error| {
        Failure::new(exit::SYSTEM, format!("the connection to the kernel broke: {error}"))
    })?;
    tracing::info!("{spec} unmounted from {}", directory.display());
    Ok(())
}

/// A volume that is ready to be mounted.
struct Opened {
    parts: VolumeParts,
    /// The kernel's own mount of it, where it is to be written.
    lower: Option<Arc<Lower>>,
}

impl Opened {
    fn new(spec: &str, options: &MountOptions) -> Result<Self> {
        if !options.has_lower() {
            let parts = volume::open(spec, options, volume::Sharing::Exclusive)?;
            return Ok(Self { parts, lower: None });
        }
        let (parts, lower) = volume::open_writable(spec, options)?;
        Ok(Self { parts, lower: Some(lower) })
    }

    fn summary(&self, spec: &str, directory: &Path) -> String {
        let (format, engine) = (self.parts.fs.info().format, &self.parts.device.info().path);
        let directory = directory.display();
        match &self.lower {
            None => format!("{spec} mounted on {directory}: {format} read by {engine}"),
            Some(lower) => {
                let device = lower.device().display();
                format!(
                    "{spec} mounted on {directory}: {format} written by the kernel on {device}, read by {engine}"
                )
            }
        }
    }
}

/// Lets clients with queues of their own in, where the mount is to have any.
fn serve_clients(homifs: &Arc<Homifs>, options: &MountOptions) -> Result<Option<Server>> {
    if options.clients == 0 {
        return Ok(None);
    }
    let threads = usize::try_from(options.clients).unwrap_or(1);
    let server = Server::start(homifs, threads, limits_of(&options.client_limits))
        .map_err(|error| Failure::new(exit::SYSTEM, homifs_core::error_chain(&error)))?;
    tracing::info!(threads, "clients with queues of their own are served at {}", server.path().display());
    Ok(Some(server))
}

fn limits_of(options: &ClientOptions) -> ClientLimits {
    let ClientOptions { sessions, queues, depth, memory, buffers, files, snapshots, handle: _ } = *options;
    let clients = usize::try_from(sessions).unwrap_or(usize::MAX);
    let entries = depth;
    ClientLimits { clients, queues, entries, memory, buffers, files, snapshots, ..ClientLimits::default() }
}

fn system(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(exit::SYSTEM, format!("{what}: {error}"))
}

/// Keeps SIGTERM, SIGINT and SIGHUP from ending the process; a thread waits for them.
pub(crate) fn block_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|error| system("cannot block signals", &error.into()))?;
    Ok(signals)
}

fn unmount_on_signal(signals: SigSet, unmounter: Unmounter) -> Result {
    let waiting = move || {
        while let Ok(signal) = signals.wait() {
            tracing::info!(%signal, "unmounting");
            if unmounter.unmount(false).is_ok() {
                return;
            }
            tracing::warn!(
                "{} is in use; it is taken from sight now, and ends when the last file on it is closed",
                unmounter.mountpoint().display()
            );
            match unmounter.unmount(true) {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "cannot unmount; use umount"),
            }
        }
    };
    let started = thread::Builder::new().name("homifs-signals".into()).spawn(waiting);
    started.map(drop).map_err(|error| system("cannot start a thread", &error))
}
