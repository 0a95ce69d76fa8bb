//! Interrupts, as eventfd(2) has them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// One interrupt vector: whoever has the descriptor signals it, one thread waits for it.
#[derive(Debug)]
pub struct Interrupt {
    event: OwnedFd,
}

impl Interrupt {
    /// A vector that was not signalled yet.
    ///
    /// # Errors
    /// Where there is no descriptor to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// A vector over an eventfd that somebody else made.
    #[must_use]
    pub fn over(event: OwnedFd) -> Self {
        Self { event }
    }

    /// Another handle to the same vector.
    ///
    /// # Errors
    /// Where there is no descriptor to be had.
    pub fn another(&self) -> io::Result<Self> {
        Ok(Self { event: self.event.try_clone()? })
    }

    /// Signals it.
    ///
    /// # Errors
    /// Where the descriptor is none that can be signalled.
    pub fn signal(&self) -> io::Result<()> {
        match rustix::io::write(&self.event, &1_u64.to_ne_bytes()) {
            // A counter that is full is signalled already.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is signalled, but not longer than `limit`, and takes the signal; whether there was one.
    ///
    /// # Errors
    /// Where the descriptor cannot be waited for.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut counter = [0; 8];
        match rustix::io::read(&self.event, &mut counter) {
            Ok(_) => return Ok(true),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if limit.is_zero() {
            return Ok(false);
        }
        let limit = Timespec::try_from(limit).ok();
        match poll(&mut [PollFd::new(&self.event, PollFlags::IN)], limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::read(&self.event, &mut counter) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn signal_is_seen_once_however_often_it_was_given() {
        let vector = Interrupt::new().unwrap();
        assert!(!vector.wait(Duration::ZERO).unwrap());
        vector.another().unwrap().signal().unwrap();
        vector.signal().unwrap();
        assert!(vector.wait(Duration::from_secs(5)).unwrap());
        assert!(!vector.wait(Duration::ZERO).unwrap());
    }

    #[test]
    fn wait_without_a_signal_ends_at_its_limit() {
        let start = Instant::now();
        assert!(!Interrupt::new().unwrap().wait(Duration::from_millis(20)).unwrap());
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
