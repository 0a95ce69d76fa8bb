//! A process that reads files by queues of its own, as an accelerator would, for as long as it may.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use homi_client::{ClientError, NvmeStatus, OpenFile, Reader, Session};
use mounts::Numbers;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::actor::{Task, identity_of};
use crate::clock::now;
use crate::device_source::SourceReader;
use crate::history::CELL;
use crate::place::{MOST, path};
use crate::record::{Act, Log, Record, Way};
use crate::register::Moment;

/// The process.
#[derive(Debug)]
pub struct DeviceReader {
    task: Task,
    numbers: Numbers,
    log: Log,
    session: Session,
    reader: By,
    /// Files that it holds at the same time.
    held: Vec<Held>,
    /// Whether it gives handles back of its own accord. Who waits for one that does not is waited for in vain, where it was
    /// not told.
    gives_back: bool,
}

/// What makes its commands.
#[derive(Debug)]
enum By {
    Client(Box<Reader>),
    Source(Box<SourceReader>),
}

impl By {
    /// How many bytes there were, or the status of what failed.
    fn read(&mut self, file: &OpenFile, offset: u64, bytes: &mut [u8]) -> Result<Result<usize, NvmeStatus>> {
        match self {
            Self::Source(source) => source.read(file, offset, bytes),
            Self::Client(reader) => match reader.read(file, offset, bytes) {
                Ok(read) => Ok(Ok(read)),
                Err(ClientError::Command { status, .. }) => Ok(Err(status)),
                Err(error) => Err(error.into()),
            },
        }
    }
}

#[derive(Debug)]
struct Held {
    opened: OpenFile,
    identity: u32,
    /// Some stay open beside their handle, some do not.
    _file: Option<OwnedFd>,
}

impl DeviceReader {
    /// Prepares one; with `program`, the [accelerator's sources](crate::build) make its commands.
    ///
    /// # Errors
    /// Where the daemon takes no clients, or the log cannot be made.
    pub fn new(task: Task, program: Option<&Path>) -> Result<Self> {
        let numbers =
            Numbers(task.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(task.actor + 1) << 32 | 1);
        let session = Session::of_file(File::open(&task.root)?).context("no session with the daemon")?;
        let reader = match program {
            Some(program) => By::Source(Box::new(SourceReader::start(program, &session)?)),
            None => By::Client(Box::new(session.reader(1 << 20).context("no queue")?)),
        };
        let log = Log::create(&task.log)?;
        let gives_back = matches!(task.actor % 4, 0 | 3);
        Ok(Self { task, numbers, log, session, reader, held: Vec::new(), gives_back })
    }

    /// Reads until its time is over.
    ///
    /// # Errors
    /// Where its records cannot be written.
    pub fn run(mut self) -> Result<()> {
        while now() < self.task.until {
            let die = self.numbers.below(10);
            // So that others get a turn where processors are few.
            sleep(Duration::from_micros(self.numbers.below(100)));
            if self.held.is_empty() || (self.held.len() < 4 && die < 3) {
                self.take()?;
            } else if die == 9 && self.gives_back {
                let number = self.any_held()?;
                self.held.swap_remove(number);
            } else {
                self.read()?;
            }
        }
        self.held.clear();
        self.log.finish()
    }

    fn any_held(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.numbers.below(self.held.len() as u64))?)
    }

    fn tell(&mut self, file: u32, (begin, end): (Moment, Moment), act: Act) -> Result<()> {
        self.log.add(&Record { actor: self.task.actor, file, begin, end, certain: true, act })
    }

    fn fail(&mut self, file: u32, what: String) -> Result<()> {
        let now = now();
        self.tell(file, (now, now), Act::Failed { what })
    }

    /// Opens a file and takes a handle of it, where nobody is writing it.
    fn take(&mut self) -> Result<()> {
        let name = u32::try_from(self.numbers.below(self.task.names.into()))?;
        let begin = now();
        let file = match open(path(&self.task.root, name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return self.tell(0, (begin, now()), Act::Look { name }),
            Err(error) => return self.fail(0, format!("device reader opens name {name}: {error}")),
        };
        let end = now();
        let identity = match identity_of(&file) {
            Ok(identity) => identity,
            Err(Errno::NODATA) => return Ok(()),
            Err(error) => return self.fail(0, format!("device reader reads the attribute: {error}")),
        };
        self.tell(identity, (begin, end), Act::Look { name })?;
        let begin = now();
        match self.session.open(&file) {
            Ok(opened) => {
                let size = opened.size();
                self.tell(identity, (begin, now()), Act::Size { size })?;
                let keeps = self.numbers.below(2) == 0;
                self.held.push(Held { opened, identity, _file: keeps.then_some(file) });
                Ok(())
            }
            // Somebody is writing it, or has taken it back at once.
            Err(error) if [libc::ETXTBSY, libc::ESTALE].contains(&error.errno()) => {
                sleep(Duration::from_micros(self.numbers.below(300)));
                Ok(())
            }
            Err(error) => self.fail(identity, format!("device reader takes a handle: {}", error.sentence())),
        }
    }

    /// Reads some of a file, or gives it back where it was taken back.
    fn read(&mut self) -> Result<()> {
        let number = self.any_held()?;
        let offset = self.numbers.below(MOST / CELL) * CELL;
        let length = CELL * (1 + self.numbers.below(512));
        let mut bytes = vec![0xff; usize::try_from(length)?];
        let held = &self.held[number];
        let identity = held.identity;
        let begin = now();
        let read = self.reader.read(&held.opened, offset, &mut bytes);
        let end = now();
        match read {
            Ok(Ok(read)) => {
                let runs = self.task.stamp.runs(offset, &bytes[..read]);
                let ends = offset + u64::try_from(read)? >= held.opened.size();
                // Fewer bytes than asked for, but not at the end, are all that there was room for.
                let length = if ends { length } else { u64::try_from(read)? };
                self.tell(identity, (begin, end), Act::Read { way: Way::Queue, offset, length, runs })
            }
            Ok(Err(status)) if status.code() == NvmeStatus::NAMESPACE_NOT_READY => {
                self.held.swap_remove(number);
                Ok(())
            }
            Ok(Err(status)) => {
                self.held.swap_remove(number);
                self.fail(identity, format!("device reader reads {length} at {offset}: {status}"))
            }
            Err(error) => {
                self.held.swap_remove(number);
                self.fail(identity, format!("device reader reads {length} at {offset}: {error:#}"))
            }
        }
    }
}
