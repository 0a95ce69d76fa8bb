//! Threads that carry out what may block: reads and writes of files that a client writes, through the kernel's driver, and
//! what the engine's queues do not bring. Each client has its own, so that nobody waits for another's `fsync`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine_block::{Operation, Windows};
use engine_controller::backing::Io;
use engine_dma::to_usize;
use engine_nvme_spec::Status;
use homifs_core::{FsError, Homifs, WritableFile};
use parking_lot::{Condvar, Mutex};

use crate::parts::{Aside, copy_in};

/// Threads of a client.
const THREADS: usize = 2;

/// Something to do.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) work: Work,
    /// What its answer is known by.
    pub(crate) token: u64,
    pub(crate) answers: Arc<Answers>,
}

/// What is to be done. The client's memory is held until it is over, whatever becomes of the command's queue.
#[derive(Debug)]
pub(crate) enum Work {
    /// A command on a file that is open to be written.
    Written { file: Arc<dyn WritableFile>, io: Io, memory: Windows },
    /// What a read lacks.
    Asides { homifs: Arc<Homifs>, asides: Vec<Aside> },
}

/// What became of the commands of one queue.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    over: Mutex<Vec<(u64, Status)>>,
    arrived: Condvar,
}

/// The threads, which are started when they are first needed, and end when this is dropped and nothing is left to do.
#[derive(Debug, Default)]
pub(crate) struct Scribes(Arc<Desk>);

#[derive(Debug, Default)]
struct Desk {
    tasks: Mutex<Tasks>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tasks {
    waiting: VecDeque<Task>,
    threads: usize,
    closed: bool,
    given_up: bool,
}

impl Scribes {
    /// Starts them, where they are not there yet.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn start(&self) -> io::Result<()> {
        self.0.start(&mut self.0.tasks.lock())
    }

    pub(crate) fn add(&self, task: Task) {
        let mut tasks = self.0.tasks.lock();
        let refused = if tasks.given_up {
            Some(Status::ABORTED_SQ_DELETION)
        } else {
            let failed = self.0.start(&mut tasks).err();
            failed.map(|error| {
                tracing::warn!(%error, "no thread to carry out a client's command");
                Status::INTERNAL_ERROR
            })
        };
        if let Some(status) = refused {
            drop(tasks);
            return task.answer(status);
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
    /// Starts what is missing of the threads; one is enough.
    fn start(self: &Arc<Self>, tasks: &mut Tasks) -> io::Result<()> {
        while tasks.threads < THREADS {
            let desk = Arc::clone(self);
            let work = move || {
                while let Some(task) = desk.next() {
                    task.carry_out();
                }
            };
            match thread::Builder::new().name("homifs-scribe".into()).spawn(work) {
                Ok(_) => tasks.threads += 1,
                Err(_) if tasks.threads > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

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
        let status = self.work.carry_out().err().unwrap_or(Status::SUCCESS);
        self.answer(status);
    }

    fn give_up(self) {
        self.answer(Status::ABORTED_SQ_DELETION);
    }

    fn answer(self, status: Status) {
        let Self { work, token, answers } = self;
        // Before the client learns of it: it may give the memory back then.
        drop(work);
        answers.add(token, status);
    }
}

impl Work {
    fn carry_out(&self) -> Result<(), Status> {
        match self {
            Self::Written { file, io, memory } => write_or_read(&**file, io, memory),
            Self::Asides { homifs, asides } => asides.iter().try_for_each(|aside| aside.bring(homifs)),
        }
    }
}

fn write_or_read(file: &dyn WritableFile, io: &Io, memory: &Windows) -> Result<(), Status> {
    let &Io { operation, offset, length, .. } = io;
    // The file's bytes of the range; what its last block has behind them is nobody's.
    let kept = file.size().saturating_sub(offset).min(length);
    match operation {
        Operation::Read => {
            let mut bytes = vec![0; to_usize(length)];
            let within = bytes.get_mut(..to_usize(kept)).unwrap_or_default();
            file.read(offset, within).map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
            copy_in(memory, &bytes)
        }
        Operation::Write => {
            let bytes = copy_out(memory, to_usize(kept))?;
            file.write(offset, &bytes).map_err(|error| write_status(&error))
        }
        Operation::WriteZeroes | Operation::Discard if kept == 0 => Ok(()),
        Operation::WriteZeroes => file.zero(offset, kept, false).map_err(|error| write_status(&error)),
        Operation::Discard => file.zero(offset, kept, true).map_err(|error| write_status(&error)),
        Operation::Flush => file.sync().map_err(|error| write_status(&error)),
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A file that says when it is synced, and is only when it is told so.
    #[derive(Debug)]
    struct File {
        began: Mutex<Sender<()>>,
        may: Mutex<Receiver<()>>,
    }

    impl WritableFile for File {
        fn size(&self) -> u64 {
            4096
        }

        fn read(&self, _offset: u64, _target: &mut [u8]) -> homifs_core::Result<usize> {
            Err(FsError::NotSupported)
        }

        fn write(&self, _offset: u64, _bytes: &[u8]) -> homifs_core::Result<()> {
            Err(FsError::NotSupported)
        }

        fn zero(&self, _offset: u64, _length: u64, _unmap: bool) -> homifs_core::Result<()> {
            Err(FsError::NotSupported)
        }

        fn sync(&self) -> homifs_core::Result<()> {
            self.began.lock().send(()).unwrap();
            self.may.lock().recv().unwrap();
            Ok(())
        }
    }

    #[test]
    fn scribes_that_give_up_end_what_they_began_and_begin_nothing() {
        let (began, begins) = channel();
        let (allow, may) = channel();
        let file = Arc::new(File { began: Mutex::new(began), may: Mutex::new(may) });
        let (scribes, answers) = (Scribes::default(), Arc::<Answers>::default());
        let add = |token| {
            let io = Io { token, operation: Operation::Flush, offset: 0, length: 0 };
            let file = Arc::clone(&file) as Arc<dyn WritableFile>;
            let work = Work::Written { file, io, memory: Windows::new() };
            scribes.add(Task { work, token, answers: Arc::clone(&answers) });
        };
        (0..5).for_each(add);
        (0..THREADS).for_each(|_| begins.recv().unwrap());
        scribes.give_up();
        add(5);
        let mut over = Vec::new();
        answers.take(Duration::ZERO, &mut over);
        let mut given_up: Vec<u64> = over.iter().map(|(token, _)| *token).collect();
        given_up.sort_unstable();
        assert_eq!(given_up, [2, 3, 4, 5]);
        assert!(over.iter().all(|(_, status)| *status == Status::ABORTED_SQ_DELETION));
        over.clear();
        (0..THREADS).for_each(|_| allow.send(()).unwrap());
        while over.len() < THREADS {
            answers.take(Duration::from_secs(1), &mut over);
        }
        assert!(over.iter().all(|(_, status)| status.is_success()), "{over:?}");
    }
}
