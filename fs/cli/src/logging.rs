//! Where the log goes: standard error in the foreground, a file or the system log in the background.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use homifs_options::{LogLevel, MountOptions};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::Result;
use crate::failure::Failure;

/// What `HOMIFS_LOG` says, in the form of tracing's filters, or else the options.
fn filter(level: LogLevel) -> EnvFilter {
    let default = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    EnvFilter::try_from_env("HOMIFS_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}

pub(crate) fn in_foreground(options: &MountOptions, verbose: bool) -> Result {
    let level = if verbose { options.log_level } else { options.log_level.min(LogLevel::Warn) };
    if options.log.is_some() {
        return in_background(options);
    }
    let log = tracing_subscriber::fmt().with_env_filter(filter(level)).with_writer(io::stderr);
    log.with_target(false).with_ansi(io::stderr().is_terminal()).without_time().init();
    Ok(())
}

pub(crate) fn in_background(options: &MountOptions) -> Result {
    let log = tracing_subscriber::fmt().with_env_filter(filter(options.log_level)).with_ansi(false);
    match &options.log {
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            let file = file
                .map_err(|error| Failure::io(format!("cannot write the log {}", path.display()), &error))?;
            log.with_writer(Mutex::new(file)).init();
        }
        None => {
            log.with_target(false).with_level(false).without_time().with_writer(SystemLog::connect()).init();
        }
    }
    Ok(())
}

/// The socket of syslog(3), which journald serves too. Where there is none, nothing is logged.
#[derive(Debug)]
struct SystemLog(Option<UnixDatagram>);

impl SystemLog {
    fn connect() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect("/dev/log")?;
            // A log that does not listen must not hold up reads.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Self(socket.ok())
    }
}

/// One message, sent when it is complete.
#[derive(Debug)]
struct Message<'a> {
    socket: Option<&'a UnixDatagram>,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for SystemLog {
    type Writer = Message<'a>;

    fn make_writer(&'a self) -> Message<'a> {
        Message::new(self.0.as_ref(), Level::INFO)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Message<'a> {
        Message::new(self.0.as_ref(), *event.level())
    }
}

impl<'a> Message<'a> {
    fn new(socket: Option<&'a UnixDatagram>, level: Level) -> Self {
        // RFC 3164: facility daemon (3), severity error, warning, info or debug.
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let text = format!("<{}>homifs[{}]: ", 3 * 8 + severity, std::process::id()).into_bytes();
        Self { socket, text }
    }
}

impl Write for Message<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.socket {
            let _ = socket.send(self.text.trim_ascii_end());
        }
    }
}
