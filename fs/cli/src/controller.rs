//! `homifs controller`: devices as namespaces of an NVMe controller behind a vfio-user socket.

mod control;
mod namespaces;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use engine_controller::{Controller, ControllerOptions, PciDoor, Subsystem};
use engine_vfio_user::Server;
use engine_vfio_user::pci::PciDevice;
use homifs_options::MountOptions;

use crate::arguments;
use crate::controller::namespaces::Served;
use crate::failure::Failure;
use crate::{Result, daemon, logging};

pub(crate) fn run(arguments: &arguments::Controller) -> Result {
    // Before the first thread starts, so that all of them inherit it.
    let signals = daemon::block_signals()?;
    logging::in_foreground(&MountOptions::default(), arguments.verbose)?;
    let mut builder = Subsystem::builder().serial(&arguments.serial);
    if let Some(nqn) = &arguments.nqn {
        builder = builder.nqn(nqn);
    }
    let subsystem = builder.build().map_err(|error| Failure::controller(&error))?;
    let served = Arc::new(Served::new(Arc::clone(&subsystem), arguments)?);
    for device in &arguments.devices {
        served.add(device)?;
    }
    let server = serve(arguments, subsystem)?;
    say(&format!("ready: {} at {}", served.in_words(), server.socket().display()))?;
    if arguments.control {
        control::listen(Arc::clone(&served))?;
    }
    match signals.wait() {
        Ok(signal) => tracing::info!(%signal, "ending"),
        Err(error) => tracing::error!(%error, "cannot wait for signals"),
    }
    // The client is left and its commands are over before the last flush.
    drop(server);
    served.flush()
}

/// Puts a controller on the subsystem behind the socket.
fn serve(arguments: &arguments::Controller, subsystem: Arc<Subsystem>) -> Result<Server> {
    let options = ControllerOptions {
        queue_pairs: arguments.queues,
        threads: arguments.threads.into(),
        vectors: arguments.queues.saturating_add(1).min(2048),
        shadow_doorbells: !arguments.no_shadow_doorbells,
        ..ControllerOptions::default()
    };
    let controller = Controller::new(options, subsystem).map_err(|error| Failure::controller(&error))?;
    let door = PciDoor::new(controller, !arguments.no_mapped_doorbells);
    let server = Server::start(&arguments.socket, Arc::new(PciDevice::new(door)));
    server.map_err(|error| with_advice(&arguments.socket, &error))
}

fn with_advice(socket: &Path, error: &engine_vfio_user::ListenError) -> Failure {
    let mut failure = Failure::controller(error);
    if let Some(folder) = socket.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
    {
        failure.message = format!("{}; make the folder {} first", failure.message, folder.display());
    }
    failure
}

/// A line for whoever started us.
fn say(line: &str) -> Result {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
