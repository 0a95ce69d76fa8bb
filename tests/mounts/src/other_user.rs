//! Other users than root.

use std::thread;

use anyhow::{Result, anyhow};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// What a thread does that belongs to this user and group, without any privilege.
///
/// # Errors
/// Where the thread cannot become that user, or panics; and what it fails of itself.
pub fn as_user<T: Send>(id: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let as_somebody = || {
        // The system calls themselves, which are for one thread; those of the C library change all.
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        work()
    };
    thread::scope(|scope| scope.spawn(as_somebody).join())
        .unwrap_or_else(|_| Err(anyhow!("the thread of user {id} panicked")))
}
