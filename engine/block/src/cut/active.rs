//! A request on its way: what of it was started, what is still out, what went wrong.

use std::mem;

use engine_dma::{Buffer, Pool, to_u64};

use super::{Command, Geometry};
use crate::{Completion, IoError, Operation, Piece, Request};

const EINVAL: i32 = 22;

/// A request that a queue has accepted.
#[derive(Debug)]
pub struct Active {
    request: Request,
    /// The piece whose commands are being made, and how many of its bytes have one.
    piece: usize,
    covered: usize,
    /// Commands that the device has.
    pub out: u32,
    /// Whether it waits for room for further commands.
    pub queued: bool,
    failure: Option<IoError>,
    /// The place in the scatter list of what failed: the byte of the buffer.
    failed_at: usize,
}

impl Active {
    /// Takes a request in, or hands it back as a completion where a piece lies outside the device or the buffer.
    ///
    /// # Errors
    /// `EINVAL` with the piece that does not fit.
    #[allow(clippy::result_large_err, reason = "the buffer comes back with it")]
    pub fn accept(request: Request, size: u64) -> Result<Self, Completion> {
        match request.pieces.iter().find(|piece| !piece.fits(size, request.buffer.len())) {
            Some(piece) => {
                let error = IoError {
                    operation: Operation::Read,
                    offset: piece.device_offset,
                    length: to_u64(piece.length),
                    errno: EINVAL,
                };
                Err(refuse(request, error))
            }
            None => {
                Ok(Self { request, piece: 0, covered: 0, out: 0, queued: false, failure: None, failed_at: 0 })
            }
        }
    }

    /// The next command to start; none once all are started or one has failed.
    pub fn next(&mut self, geometry: &Geometry) -> Option<Command> {
        if self.failure.is_some() {
            return None;
        }
        loop {
            let piece = self.request.pieces.get(self.piece)?;
            if self.covered < piece.length {
                let command = Command::next(piece, self.covered, geometry);
                self.covered += command.wanted;
                return Some(command);
            }
            self.piece += 1;
            self.covered = 0;
        }
    }

    /// Whether [`next`](Self::next) would answer one.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let covered_here = |piece: &Piece| self.covered < piece.length;
        let rest = self.request.pieces.get(self.piece..).unwrap_or_default();
        self.failure.is_none()
            && rest
                .split_first()
                .is_some_and(|(this, later)| covered_here(this) || later.iter().any(|piece| piece.length > 0))
    }

    /// Notes that `command` failed after `arrived` of its bytes. The earliest failure in the buffer is the one told.
    pub fn fail(&mut self, command: &Command, arrived: usize, errno: i32) {
        let (offset, length) = command.missing(arrived);
        if self.failure.is_none() || command.buffer_offset < self.failed_at {
            self.failure = Some(IoError { operation: Operation::Read, offset, length, errno });
            self.failed_at = command.buffer_offset;
        }
    }

    /// Lets no further command start; what has not arrived counts as failed.
    pub fn stop(&mut self, errno: i32) {
        if self.has_more() {
            let error = whole(&self.request, errno);
            self.failure = Some(error);
        }
    }

    /// Ends a request whose memory the device may still write to: that memory is leaked, and the completion carries
    /// other memory of the same length. None where there is no memory at all.
    pub fn abandon(self, errno: i32, substitutes: &mut Pool) -> Option<Completion> {
        let error = whole(&self.request, errno);
        let tag = self.request.tag;
        let buffer = substitutes.take(self.request.buffer.len()).ok();
        mem::forget(self.request.buffer);
        Some(Completion { tag, buffer: buffer?, result: Err(error) })
    }

    /// The memory that it goes to.
    #[must_use]
    pub fn buffer(&self) -> &Buffer {
        &self.request.buffer
    }

    /// The same, to be filled by hand.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.request.buffer
    }

    /// Copies what arrived of `command` in bounce memory, its first `arrived` bytes, to where it was wanted.
    pub fn copy_out(&mut self, command: &Command, bounce: &[u8], arrived: usize) {
        let end = arrived.min(command.skip + command.wanted);
        let Some(source) = bounce.get(command.skip..end) else { return };
        let place = command.buffer_offset..command.buffer_offset + source.len();
        if let Some(target) = self.request.buffer.get_mut(place) {
            target.copy_from_slice(source);
        }
    }

    /// The end, with nothing out any more.
    #[must_use]
    pub fn complete(self) -> Completion {
        let result = self.failure.map_or(Ok(()), Err);
        Completion { tag: self.request.tag, buffer: self.request.buffer, result }
    }
}

/// The request back, unstarted.
#[must_use]
pub fn refuse(request: Request, error: IoError) -> Completion {
    Completion { tag: request.tag, buffer: request.buffer, result: Err(error) }
}

/// What to blame where a request as a whole is refused: the range of its first piece.
#[must_use]
pub fn whole(request: &Request, errno: i32) -> IoError {
    let first = request.pieces.first();
    IoError {
        operation: Operation::Read,
        offset: first.map_or(0, |piece| piece.device_offset),
        length: first.map_or(0, |piece| to_u64(piece.length)),
        errno,
    }
}
