//! Reading files with a queue pair, from a thread of this process.

use crate::prp;
use crate::queue::{Command, Done, QueuePair};
use crate::session::{Buffer, Session};
use crate::staging::{Part, Staging};
use crate::target::Target;
use crate::{ClientError, NvmeStatus, OpenFile};

/// Entries of a reader's queue.
const ENTRIES: u32 = 256;

/// A range of a file, and where it goes.
#[derive(Debug)]
pub struct Request<'a> {
    /// The file.
    pub file: &'a OpenFile,
    /// First byte in the file.
    pub offset: u64,
    /// As many bytes as it has are read.
    pub target: Target<'a>,
}

/// A queue pair and registered memory, for one thread.
#[derive(Debug)]
pub struct Reader {
    pair: QueuePair,
    // Before the memory that it is of.
    #[cfg(feature = "cuda")]
    registered: Option<crate::cuda::Registered>,
    memory: Buffer,
    staging: Staging,
    /// Most bytes that one command brings.
    piece: usize,
    page: usize,
    flights: Vec<Flight>,
    /// A command was not answered: it may still write to the memory, and nobody knows when.
    lost: bool,
}

/// Which command is behind a place of the submission queue.
#[derive(Debug, Clone, Copy)]
struct Flight {
    request: usize,
    part: Part,
    /// Bytes at the part's start that were not asked for.
    skip: usize,
    /// First byte within the request's target, and how many.
    target: usize,
    length: usize,
}

/// How far the work on a list of requests is.
struct Progress {
    request: usize,
    started: usize,
    /// Bytes of each request that exist.
    lengths: Vec<usize>,
    failures: Vec<Option<ClientError>>,
}

impl Reader {
    pub(crate) fn new(session: &Session, staging: usize, by_prp: bool) -> Result<Self, ClientError> {
        let limits = session.limits();
        let transfer = usize::try_from(limits.transfer).unwrap_or(usize::MAX);
        let page = usize::try_from(limits.page).unwrap_or(4096).max(1);
        // Some commands should be in flight at a time, even with little memory.
        let most = if by_prp { transfer.min(prp::LONGEST) } else { transfer };
        let piece = (staging / 8).next_multiple_of(page).clamp(page, most.max(page));
        let length = staging.max(piece).next_multiple_of(page);
        let (memory, naming) = prp::memory(session, length, by_prp)?;
        let staging = Staging::new(length);
        let mut queues = session.queues(1, ENTRIES.min(limits.entries))?;
        let mut pair = queues.pair(0).ok_or_else(|| ClientError::Protocol("it gave no queue".into()))?;
        pair.name_by(naming);
        let nowhere =
            Flight { request: 0, part: Part { number: 0, start: 0 }, skip: 0, target: 0, length: 0 };
        let flights = vec![nowhere; usize::try_from(ENTRIES).unwrap_or(0)];
        Ok(Self {
            pair,
            #[cfg(feature = "cuda")]
            registered: None,
            memory,
            staging,
            piece,
            page,
            flights,
            lost: false,
        })
    }

    /// Whether it can go on: no command of it was left unanswered.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.lost
    }

    /// Fills `target` from byte `offset` of a file on; how many bytes there were, fewer than asked for only at its end.
    ///
    /// # Errors
    /// Where a command failed or was not answered. Nothing is in flight then, unless it was not answered.
    pub fn read<'a>(
        &mut self,
        file: &'a OpenFile,
        offset: u64,
        target: impl Into<Target<'a>>,
    ) -> Result<usize, ClientError> {
        let mut request = [Request { file, offset, target: target.into() }];
        self.read_many(&mut request)?.pop().unwrap_or(Ok(0))
    }

    /// Reads many ranges at once: as many commands as there is room for are written before the daemon is told of them,
    /// whichever range they belong to. For each range, how many bytes there were, or why it failed.
    ///
    /// # Errors
    /// Where a command was not answered, or a file is of another session: none of the ranges is filled for certain then.
    pub fn read_many(
        &mut self,
        requests: &mut [Request<'_>],
    ) -> Result<Vec<Result<usize, ClientError>>, ClientError> {
        if self.lost {
            return Err(ClientError::Invalid(
                "a command of this reader was never answered, so its memory cannot be used; make another"
                    .into(),
            ));
        }
        self.pair.check_owner()?;
        let mut progress = Progress::of(requests);
        for request in &*requests {
            self.check(request.file)?;
        }
        #[cfg(feature = "cuda")]
        self.show_to_device(requests)?;
        let outcome = self.carry_out(requests, &mut progress);
        self.lost = self.pair.in_flight() > 0;
        outcome?;
        progress.doubt_ends(requests);
        let results = progress.failures.into_iter().zip(progress.lengths);
        Ok(results.map(|(failure, length)| failure.map_or(Ok(length), Err)).collect())
    }

    /// Registers the memory with the driver where some target is a device's; once is enough for all devices.
    #[cfg(feature = "cuda")]
    fn show_to_device(&mut self, requests: &[Request<'_>]) -> Result<(), ClientError> {
        let device = requests.iter().find_map(|request| request.target.device());
        if let Some(device) = device
            && self.registered.is_none()
        {
            self.registered = Some(device.register(self.memory.memory())?);
        }
        Ok(())
    }

    fn check(&self, file: &OpenFile) -> Result<(), ClientError> {
        if !self.pair.is_of_session_of(file) {
            return Err(ClientError::Invalid(
                "the file was opened in another session than the reader's".into(),
            ));
        }
        let block = usize::try_from(file.block_size()).unwrap_or(usize::MAX);
        if block > self.piece {
            let least = block.saturating_mul(8);
            return Err(ClientError::Invalid(format!(
                "blocks of {block} bytes need a reader with {least} bytes of memory"
            )));
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        requests: &mut [Request<'_>],
        progress: &mut Progress,
    ) -> Result<(), ClientError> {
        loop {
            while let Some(request) = progress.next() {
                let Some(bytes) = self.start(&requests[request], request, progress) else { break };
                progress.started += bytes;
            }
            self.pair.ring()?;
            if self.pair.in_flight() == 0 {
                // An empty queue has room, so nothing is left to start.
                return match progress.next() {
                    None => Ok(()),
                    Some(_) => Err(ClientError::Protocol("an empty queue takes no command".into())),
                };
            }
            self.finish(requests, progress)?;
            while let Some(done) = self.pair.reap() {
                self.bring(done, requests, progress);
            }
        }
    }

    /// Starts the next command of a request; how many bytes it will bring. None where there is no room.
    fn start(&mut self, request: &Request<'_>, number: usize, progress: &Progress) -> Option<usize> {
        let file = request.file;
        let at = request.offset + u64::try_from(progress.started).ok()?;
        let block = at >> file.block_shift();
        let skip = usize::try_from(at - (block << file.block_shift())).ok()?;
        let block_size = usize::try_from(file.block_size()).ok()?;
        // Whole blocks only, or a command would bring more than its part has room for.
        let most = self.piece / block_size * block_size;
        let wanted = (progress.lengths[number] - progress.started).min(most - skip);
        let blocks = (skip + wanted).div_ceil(block_size);
        let part = self.staging.take((blocks * block_size).next_multiple_of(self.page))?;
        let blocks = u32::try_from(blocks).ok()?;
        let command = Command {
            nsid: file.nsid(),
            block,
            blocks,
            iova: self.memory.iova() + u64::try_from(part.start).ok()?,
            length: blocks << file.block_shift(),
        };
        let Some(place) = self.pair.read(command) else {
            self.staging.give_back(part.number);
            return None;
        };
        self.flights[usize::from(place)] =
            Flight { request: number, part, skip, target: progress.started, length: wanted };
        Some(wanted)
    }

    fn finish(&mut self, requests: &mut [Request<'_>], progress: &mut Progress) -> Result<(), ClientError> {
        let done = self.pair.wait()?;
        self.bring(done, requests, progress);
        Ok(())
    }

    /// Brings what a command read to where it belongs.
    fn bring(&mut self, done: Done, requests: &mut [Request<'_>], progress: &mut Progress) {
        let flight = self.flights[usize::from(done.place)];
        let request = &mut requests[flight.request];
        let outcome = if done.status == NvmeStatus::SUCCESS {
            let source = flight.part.start + flight.skip;
            request.target.fill(flight.target, self.memory.memory(), source, flight.length)
        } else {
            let within = u64::try_from(flight.target).unwrap_or(u64::MAX);
            Err(ClientError::Command {
                offset: request.offset.saturating_add(within),
                length: u64::try_from(flight.length).unwrap_or(u64::MAX),
                status: done.status,
            })
        };
        if let Err(error) = outcome {
            progress.failures[flight.request].get_or_insert(error);
        }
        self.staging.give_back(flight.part.number);
    }
}

impl Progress {
    fn of(requests: &[Request<'_>]) -> Self {
        let there = |request: &Request<'_>| {
            let there = request.file.size().saturating_sub(request.offset);
            usize::try_from(there).unwrap_or(usize::MAX).min(request.target.length())
        };
        let lengths = requests.iter().map(there).collect();
        let failures = requests.iter().map(|_| None).collect();
        Self { request: 0, started: 0, lengths, failures }
    }

    /// Where a file was taken back, nobody knows any more where it ends: what needed no command because it lies past the
    /// end was not told by the daemon.
    fn doubt_ends(&mut self, requests: &[Request<'_>]) {
        let both = requests.iter().zip(&self.lengths).zip(&mut self.failures);
        for ((request, &length), failure) in both {
            if length == 0 && request.target.length() > 0 && !request.file.is_held() {
                *failure = Some(ClientError::Command {
                    offset: request.offset,
                    length: u64::try_from(request.target.length()).unwrap_or(u64::MAX),
                    status: NvmeStatus(NvmeStatus::NAMESPACE_NOT_READY),
                });
            }
        }
    }

    /// The request that a command is to be started for; none where all are.
    fn next(&mut self) -> Option<usize> {
        loop {
            let length = *self.lengths.get(self.request)?;
            if self.started < length && self.failures[self.request].is_none() {
                return Some(self.request);
            }
            self.request += 1;
            self.started = 0;
        }
    }
}
