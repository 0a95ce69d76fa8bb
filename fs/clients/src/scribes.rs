//! Threads that carry out what may block: reads and writes of files that a client writes, through the kernel's driver.
//! Each client has its own, so that nobody waits for another's `fsync`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine_block::{Operation, Windows};
use engine_controller::backing::Io;
use engine_dma::to_usize;
use engine_nvme_spec::Status;
use homifs_core::{FsError, WritableFile};
use parking_lot::{Condvar, Mutex};

use crate::parts::copy_in;

/// Threads of a client.
const THREADS: usize = 2;

/// One command.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) file: Arc<dyn WritableFile>,
    pub(crate) io: Io,
    /// Held until the command is over, whatever becomes of its queue.
    pub(crate) memory: Windows,
    pub(crate) answers: Arc<Answers>,
}

/// What became of the commands of one queue.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    over: Mutex<Vec<(u64, Status)>>,
    arrived: Condvar,
}

/// The threads, which end when this is dropped and nothing is left to do.
#[derive(Debug)]
pub(crate) struct Scribes(Arc<Desk>);

#[derive(Debug, Default)]
struct Desk {
    tasks: Mutex<Tasks>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tasks {
    waiting: VecDeque<Task>,
    closed: bool,
    given_up: bool,
}

impl Scribes {
    /// Starts them.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn new() -> std::io::Result<Self> {
        let scribes = Self(Arc::default());
        for _ in 0..THREADS {
            let desk = Arc::clone(&scribes.0);
            let work = move || {
                while let Some(task) = desk.next() {
                    task.carry_out();
                }
            };
            thread::Builder::new().name("homifs-scribe".into()).spawn(work)?;
        }
        Ok(scribes)
    }

    pub(crate) fn add(&self, task: Task) {
        let mut tasks = self.0.tasks.lock();
        if tasks.given_up {
            drop(tasks);
            return task.give_up();
        }
        tasks.waiting.push_back(task);
        drop(tasks);
        self.0.changed.notify_one();
    }

    /// Carries out nothing more than what was begun.
    pub(crate) fn give_up(&self) {
        let waiting = {
            let mut tasks = self.0.tasks.lock();
            tasks.given_up = true;
            std::mem::take(&mut tasks.waiting)
        };
        waiting.into_iter().for_each(Task::give_up);
    }
}

impl Drop for Scribes {
    fn drop(&mut self) {
        self.0.tasks.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Desk {
    fn next(&self) -> Option<Task> {
        let mut tasks = self.tasks.lock();
        loop {
            if let Some(task) = tasks.waiting.pop_front() {
                return Some(task);
            }
            if tasks.closed {
                return None;
            }
            self.changed.wait(&mut tasks);
        }
    }
}

impl Answers {
    /// Adds what is over; waits for something up to `limit`.
    pub(crate) fn take(&self, limit: Duration, done: &mut Vec<(u64, Status)>) {
        let mut over = self.over.lock();
        if over.is_empty() && !limit.is_zero() {
            self.arrived.wait_for(&mut over, limit);
        }
        done.append(&mut over);
    }

    fn add(&self, token: u64, status: Status) {
        self.over.lock().push((token, status));
        self.arrived.notify_one();
    }
}

impl Task {
    fn carry_out(self) {
        let status = self.status().err().unwrap_or(Status::SUCCESS);
        self.answer(status);
    }

    fn give_up(self) {
        self.answer(Status::ABORTED_SQ_DELETION);
    }

    fn answer(self, status: Status) {
        let Self { io, memory, answers, .. } = self;
        // Before the client learns of it: it may give the memory back then.
        drop(memory);
        answers.add(io.token, status);
    }

    fn status(&self) -> Result<(), Status> {
        let Io { operation, offset, length, .. } = self.io;
        // The file's bytes of the range; what its last block has behind them is nobody's.
        let kept = self.file.size().saturating_sub(offset).min(length);
        match operation {
            Operation::Read => {
                let mut bytes = vec![0; to_usize(length)];
                let within = bytes.get_mut(..to_usize(kept)).unwrap_or_default();
                self.file.read(offset, within).map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
                copy_in(&self.memory, &bytes)
            }
            Operation::Write => {
                let bytes = copy_out(&self.memory, to_usize(kept))?;
                self.file.write(offset, &bytes).map_err(|error| write_status(&error))
            }
            Operation::WriteZeroes | Operation::Discard if kept == 0 => Ok(()),
            Operation::WriteZeroes => {
                self.file.zero(offset, kept, false).map_err(|error| write_status(&error))
            }
            Operation::Discard => self.file.zero(offset, kept, true).map_err(|error| write_status(&error)),
            Operation::Flush => self.file.sync().map_err(|error| write_status(&error)),
        }
    }
}

/// The first bytes of what the windows hold.
fn copy_out(windows: &Windows, length: usize) -> Result<Vec<u8>, Status> {
    let mut bytes = vec![0; length];
    let mut rest = bytes.as_mut_slice();
    for window in windows {
        let taken = window.length.min(rest.len());
        let (part, later) = rest.split_at_mut(taken);
        window.mapping.region().read(window.offset, part).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        rest = later;
    }
    Ok(bytes)
}

fn write_status(error: &FsError) -> Status {
    match error.errno() {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Status::CAPACITY_EXCEEDED.final_(),
        libc::EROFS | libc::EPERM | libc::EACCES => Status::NAMESPACE_WRITE_PROTECTED.final_(),
        _ => Status::WRITE_FAULT,
    }
}
