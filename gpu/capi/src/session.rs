//! Sessions with the daemon of a mount.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use homi_client::{Client, Fallback, ServedBy};

use crate::boundary::{Failure, answer, check, give_back, path, seen};
use crate::constants::ALLOW_PREAD;
use crate::declare::CType;

/// What C has as `homifs_session`.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    why: CString,
}

impl CType for Session {
    fn name() -> String {
        "homifs_session".into()
    }
}

impl Session {
    fn new(client: Client) -> Box<Self> {
        let why = text(&client.why());
        Box::new(Self { client: Arc::new(client), why })
    }
}

record! {
    /// What the daemon allows one session.
    Limits = "homifs_limits" {
        /// Most bytes of buffers, all together.
        buffer_bytes: u64,
        /// Most buffers. Each thread that reads at the same time takes one, and one queue pair, for the library.
        buffers: u32,
        /// Most queue pairs, all together.
        queues: u32,
        /// Most entries of one queue.
        entries: u32,
        /// Most files that queues serve at a time.
        files: u32,
        /// Most bytes that one command brings.
        transfer: u32,
        /// What lengths of buffers are multiples of.
        page: u32,
    }
}

/// A string for C.
pub(crate) fn text(words: &str) -> CString {
    CString::new(words.replace('\0', "?")).unwrap_or_default()
}

/// The word for a path.
pub(crate) fn word(by: ServedBy) -> *const c_char {
    match by {
        ServedBy::Queues => c"queues".as_ptr(),
        ServedBy::Pread => c"pread".as_ptr(),
    }
}

fn fallback(flags: u32) -> Result<Fallback, Failure> {
    match flags {
        0 => Ok(Fallback::Refuse),
        ALLOW_PREAD => Ok(Fallback::Pread),
        _ => Err(Failure::invalid(format!("flags {flags:#x} are not known; only HOMIFS_ALLOW_PREAD is"))),
    }
}

/// A descriptor of the caller's, for the time of a call.
///
/// # Safety
/// It must stay open as long.
pub(crate) unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Failure> {
    // SAFETY: fcntl(2) with this command looks at nothing but the number.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        let text = format!("{fd} is no open descriptor");
        return Err(Failure { errno: libc::EBADF, status: 0, text });
    }
    // SAFETY: It is open, and stays so (the caller's promise).
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes a descriptor over that was made for us.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    fd.try_clone_to_owned().map_err(|error| Failure {
        errno: error.raw_os_error().unwrap_or(libc::EIO),
        status: 0,
        text: format!("cannot duplicate the descriptor: {error}"),
    })
}

functions! {
    /// Begins a session with the daemon of the mount that `path` lies on; any file or directory of it will do. Threads
    /// may share a session. Ends with homifs_session_close. 0, or an errno with a minus sign: EOPNOTSUPP where the mount
    /// serves no queues and HOMIFS_ALLOW_PREAD was not given.
    fn homifs_session_open(path: *const c_char, flags: u32, session: *mut *mut Session) -> c_int {
        check(session, "session")?;
        // SAFETY: The caller gives a string, or null.
        let path = unsafe { self::path(path, "path") }?;
        let client = Client::of_path(path, fallback(flags)?)?;
        // SAFETY: A pointer fits there, as the header says.
        unsafe { answer(session, "session", Box::into_raw(Session::new(client))) }?;
        Ok(0)
    }

    /// As homifs_session_open, for the mount that an open file or directory lies on. The descriptor stays the caller's.
    fn homifs_session_open_fd(fd: c_int, flags: u32, session: *mut *mut Session) -> c_int {
        check(session, "session")?;
        // SAFETY: The caller keeps it open for the time of the call.
        let fd = unsafe { descriptor(fd) }?;
        let client = Client::of_file(fd, fallback(flags)?)?;
        // SAFETY: A pointer fits there, as the header says.
        unsafe { answer(session, "session", Box::into_raw(Session::new(client))) }?;
        Ok(0)
    }

    /// Which path serves files of this session unless they say otherwise: "queues" or "pread". Null where session is.
    fn homifs_session_served_by(session: *const Session) -> *const c_char {
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        Ok(word(session.client.served_by()))
    }

    /// Why there are no queues; "" where there are. It is there as long as the session.
    fn homifs_session_why(session: *const Session) -> *const c_char {
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        Ok(session.why.as_ptr())
    }

    /// What the daemon allows. EOPNOTSUPP where the session has no queues.
    fn homifs_session_limits(session: *const Session, limits: *mut Limits) -> c_int {
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        let told = queues_of(session)?.limits();
        let value = Limits {
            buffer_bytes: told.buffer_bytes,
            buffers: told.buffers,
            queues: told.queues,
            entries: told.entries,
            files: told.files,
            transfer: told.transfer,
            page: told.page,
        };
        // SAFETY: The structure fits there, as the header says.
        unsafe { answer(limits, "limits", value) }?;
        Ok(0)
    }

    /// Wakes the daemon, for those who rang a doorbell while *homifs_queue_memory.asleep was not 0.
    fn homifs_session_wake(session: *const Session) -> c_int {
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        queues_of(session)?.wake()?;
        Ok(0)
    }

    /// Ends a session. What was made of it goes on until it is closed, too; the daemon keeps the session as long. Null is
    /// nothing.
    fn homifs_session_close(session: *mut Session) -> () {
        // SAFETY: The caller has it from homifs_session_open and uses it no more.
        unsafe { give_back(session) };
        Ok(())
    }
}

/// The session's queues.
pub(crate) fn queues_of(session: &Session) -> Result<&homi_client::Session, Failure> {
    session.client.session().ok_or_else(|| Failure {
        errno: libc::EOPNOTSUPP,
        status: 0,
        text: format!("the session has no queues: {}", session.client.why()),
    })
}
