//! Notices what the server does while nobody asks it: going away, and asking for memory.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use std::io;

use engine_transport::Interrupt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::client::line::Line;

/// The thread that watches a line; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Interrupt,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start(line: Arc<Line>) -> io::Result<Self> {
        let stop = Interrupt::new()?;
        let stopped = stop.another()?;
        let thread = thread::Builder::new().name("vfio-user".into()).spawn(move || watch(&line, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.stop.signal().is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn watch(line: &Line, stop: &Interrupt) {
    // Replies are read by those who wait for them. Where the server asks on a socket of its own, this thread need not
    // wake up for each.
    let asked_here = if line.twin().is_some() { PollFlags::empty() } else { PollFlags::IN };
    while !line.is_over() {
        let mut polled =
            vec![PollFd::new(stop, PollFlags::IN), PollFd::new(line.socket(), asked_here | PollFlags::RDHUP)];
        polled.extend(line.twin().map(|twin| PollFd::new(twin, PollFlags::IN)));
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        match ready.as_slice() {
            [true, ..] => return,
            [_, _, true] => line.pump_twin(),
            _ => line.pump(),
        }
    }
}
