//! Reading files as programs do that do not care for queues: by any thread, by whichever path there is.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::ClientError;
use crate::reader::{Reader, Request};
use crate::served::{Fallback, ServedBy, ServedFile};
use crate::served_snapshot::{ServedSnapshot, SnapshotRequest};
use crate::session::Session;
use crate::target::Target;

/// Bytes of memory that each reader has.
const STAGING: usize = 4 << 20;
/// Most readers: each thread that reads at the same time has one, and others wait.
const READERS: usize = 64;
const ANOTHER_CLIENT: &str = "the file was opened by another client than the one that is to read it";

/// Reads files of one mount, by queues or, where that is allowed, by pread(2). Threads may share it.
#[derive(Debug)]
pub struct Client {
    queues: Result<Queues, ClientError>,
    fallback: Fallback,
}

/// A range of a file that a [`Client`] opened.
#[derive(Debug)]
pub struct ServedRequest<'a> {
    /// The file.
    pub file: &'a ServedFile,
    /// First byte in the file.
    pub offset: u64,
    /// As many bytes as it has are read.
    pub target: Target<'a>,
}

#[derive(Debug)]
struct Queues {
    session: Session,
    readers: Mutex<Readers>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Readers {
    idle: Vec<Reader>,
    /// Those in use among them.
    made: usize,
}

impl Client {
    /// A client of the mount that an open file or directory lies on.
    ///
    /// # Errors
    /// Where the mount serves no queues, and pread(2) is not allowed.
    pub fn of_file(file: impl AsFd, fallback: Fallback) -> Result<Self, ClientError> {
        let session = Session::of_file(file).map(|session| Queues {
            session,
            readers: Mutex::default(),
            returned: Condvar::new(),
        });
        match (session, fallback) {
            (Err(error), Fallback::Refuse) => Err(error),
            (queues, _) => Ok(Self { queues, fallback }),
        }
    }

    /// As [`of_file`](Self::of_file), for the mount that a path leads to.
    ///
    /// # Errors
    /// As there, and where there is no such path.
    pub fn of_path(path: &Path, fallback: Fallback) -> Result<Self, ClientError> {
        // It need not be readable, only there.
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(ClientError::system("open the path"))?;
        Self::of_file(file, fallback)
    }

    /// Which path serves its files, unless one of them says otherwise.
    #[must_use]
    pub fn served_by(&self) -> ServedBy {
        if self.queues.is_ok() { ServedBy::Queues } else { ServedBy::Pread }
    }

    /// Why there are no queues; empty where there are.
    #[must_use]
    pub fn why(&self) -> String {
        self.queues.as_ref().map_or_else(ClientError::sentence, |_| String::new())
    }

    /// Whether its session, where it has one, can still be used: by this process, and with a daemon that is there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.session().is_none_or(Session::is_alive)
    }

    /// The session with the daemon, where there is one.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.queues.as_ref().ok().map(|queues| &queues.session)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Where the system refuses, or queues cannot serve it and pread(2) is not allowed.
    pub fn open(&self, path: &Path) -> Result<ServedFile, ClientError> {
        // A pipe at this path must not hold us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file =
            rustix::fs::open(path, flags, Mode::empty()).map_err(ClientError::system("open the file"))?;
        self.open_file(file.into())
    }

    /// As [`open`](Self::open), for a file that is open already.
    ///
    /// # Errors
    /// As there.
    pub fn open_file(&self, file: fs::File) -> Result<ServedFile, ClientError> {
        let kind =
            file.metadata().map_err(|source| ClientError::System { action: "look at the file", source })?;
        if !kind.is_file() {
            return Err(ClientError::Invalid("only regular files can be read".into()));
        }
        let Ok(queues) = &self.queues else { return ServedFile::by_pread(file, self.why()) };
        match (queues.session.open(&file), self.fallback) {
            (Ok(opened), fallback) => Ok(ServedFile::by_queues(file, opened, fallback)),
            (Err(error), Fallback::Refuse) => Err(error),
            (Err(error), Fallback::Pread) => ServedFile::by_pread(file, error.sentence()),
        }
    }

    /// All files below a directory at once, which is open; they are read by [`read_snapshot`](Self::read_snapshot).
    ///
    /// # Errors
    /// Where the mount serves no queues, which pread(2) cannot replace here, or as [`Session::snapshot`].
    pub fn snapshot(&self, directory: impl AsFd) -> Result<ServedSnapshot, ClientError> {
        let queues = self.queues.as_ref().map_err(ClientError::again)?;
        ServedSnapshot::new(queues.session.snapshot(directory)?)
    }

    /// Reads many ranges of files of a snapshot, by commands that are told of together; for each how many bytes there were,
    /// or why it failed. A file that was taken back answers Namespace Not Ready; others go on.
    pub fn read_snapshot(
        &self,
        snapshot: &ServedSnapshot,
        requests: &mut [SnapshotRequest<'_>],
    ) -> Vec<Result<usize, ClientError>> {
        let Ok(queues) = &self.queues else {
            let failed = |_: &mut SnapshotRequest<'_>| Err(ClientError::Invalid(ANOTHER_CLIENT.into()));
            return requests.iter_mut().map(failed).collect();
        };
        let mut results: Vec<Option<Result<usize, ClientError>>> = requests.iter().map(|_| None).collect();
        let (mut places, mut ours) = (Vec::new(), Vec::new());
        for (place, request) in requests.iter_mut().enumerate() {
            match snapshot.request(request) {
                Ok(_) if !snapshot.namespace().is_of_session(&queues.session) => {
                    results[place] = Some(Err(ClientError::Invalid(ANOTHER_CLIENT.into())));
                }
                Ok(request) => {
                    places.push(place);
                    ours.push(request);
                }
                Err(error) => results[place] = Some(Err(error)),
            }
        }
        queues.carry_out(&places, &mut ours, &mut results);
        results.into_iter().map(|result| result.unwrap_or(Ok(0))).collect()
    }

    /// Fills `target` from byte `offset` of a file on; how many bytes there were, fewer than asked for only at its end.
    ///
    /// # Errors
    /// Where a command or the system failed.
    pub fn read<'a>(
        &self,
        file: &'a ServedFile,
        offset: u64,
        target: impl Into<Target<'a>>,
    ) -> Result<usize, ClientError> {
        let mut request = [ServedRequest { file, offset, target: target.into() }];
        self.read_many(&mut request).pop().unwrap_or(Ok(0))
    }

    /// Reads many ranges; for each how many bytes there were, or why it failed. Those that queues serve go out together.
    pub fn read_many(&self, requests: &mut [ServedRequest<'_>]) -> Vec<Result<usize, ClientError>> {
        let mut results: Vec<Option<Result<usize, ClientError>>> = requests.iter().map(|_| None).collect();
        if let Ok(queues) = &self.queues {
            queues.read(requests, &mut results);
        }
        let both = requests.iter_mut().zip(results);
        both.map(|(request, result)| match result {
            Some(Err(error)) if !request.file.falls_back(&error) => Err(error),
            Some(Ok(length)) => Ok(length),
            _ => request.file.pread(request.offset, &mut request.target),
        })
        .collect()
    }
}

impl Queues {
    /// Reads what queues serve.
    fn read(&self, requests: &mut [ServedRequest<'_>], results: &mut [Option<Result<usize, ClientError>>]) {
        let mut places = Vec::with_capacity(requests.len());
        let mut ours: Vec<Request<'_>> = Vec::with_capacity(requests.len());
        for (place, request) in requests.iter_mut().enumerate() {
            let Some(file) = request.file.namespace() else { continue };
            if file.is_of_session(&self.session) {
                places.push(place);
                ours.push(Request { file, offset: request.offset, target: request.target.again() });
            } else {
                results[place] = Some(Err(ClientError::Invalid(ANOTHER_CLIENT.into())));
            }
        }
        self.carry_out(&places, &mut ours, results);
    }

    /// Reads ranges, and puts what came of each to its place.
    fn carry_out(
        &self,
        places: &[usize],
        ours: &mut [Request<'_>],
        results: &mut [Option<Result<usize, ClientError>>],
    ) {
        if ours.is_empty() {
            return;
        }
        let outcome = self.take().and_then(|mut reader| {
            let outcome = reader.read_many(ours);
            self.give_back(reader);
            outcome
        });
        match outcome {
            Ok(answers) => {
                for (&place, answer) in places.iter().zip(answers) {
                    results[place] = Some(answer);
                }
            }
            Err(error) => {
                for &place in places {
                    results[place] = Some(Err(error.again()));
                }
            }
        }
    }

    /// A reader for this thread alone.
    fn take(&self) -> Result<Reader, ClientError> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(reader) = readers.idle.pop() {
                return Ok(reader);
            }
            if readers.made < READERS {
                readers.made += 1;
                drop(readers);
                let made = self.session.reader(STAGING);
                readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
                match made {
                    Ok(reader) => return Ok(reader),
                    Err(error) => {
                        readers.made -= 1;
                        // The limits may leave room for few; then those few are shared.
                        if readers.made == 0 || !is_limit(&error) {
                            return Err(error);
                        }
                    }
                }
                if !readers.idle.is_empty() {
                    continue;
                }
            }
            readers = self.returned.wait(readers).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, reader: Reader) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_sound() {
            readers.idle.push(reader);
        } else {
            readers.made -= 1;
        }
        self.returned.notify_one();
    }
}

/// Whether the daemon gives no more of something, while what it gave goes on.
fn is_limit(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { .. })
}
