//! The wall between C and Rust: no panic passes it, and no pointer unseen.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use homi_client::ClientError;

use crate::error;

/// Why a function failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) errno: c_int,
    /// The status of the NVMe command that failed, 0 where none did.
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Failure {
    /// An argument that cannot be.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self { errno: libc::EINVAL, status: 0, text: text.into() }
    }

    fn of_panic() -> Self {
        let text = "the library stopped in the middle of this call because of a mistake of its own; please report it";
        Self { errno: libc::EIO, status: 0, text: text.into() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { errno: error.errno(), status: error.status().0, text: error.sentence() }
    }
}

/// What a function returns where it fails.
pub(crate) trait Outcome {
    fn of_failure(failure: &Failure) -> Self;
}

impl Outcome for c_int {
    fn of_failure(failure: &Failure) -> Self {
        -failure.errno
    }
}

impl Outcome for i64 {
    fn of_failure(failure: &Failure) -> Self {
        Self::from(-failure.errno)
    }
}

impl Outcome for u32 {
    fn of_failure(_: &Failure) -> Self {
        0
    }
}

impl Outcome for () {
    fn of_failure(_: &Failure) {}
}

impl<T> Outcome for *const T {
    fn of_failure(_: &Failure) -> Self {
        std::ptr::null()
    }
}

/// Runs a function's body, keeps why it failed, and stops panics.
pub(crate) fn guard<T: Outcome>(body: impl FnOnce() -> Result<T, Failure>) -> T {
    // What a panic leaves behind in a session are locks, which are taken all the same.
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(Failure::of_panic()));
    outcome.unwrap_or_else(|failure| {
        let answer = T::of_failure(&failure);
        error::keep(&failure);
        answer
    })
}

/// What a pointer leads to.
///
/// # Safety
/// Where it is not null, it must lead to a `T` that nobody changes for as long as `'a`.
pub(crate) unsafe fn seen<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check(pointer, name)?;
    // SAFETY: The caller's promise; it is neither null nor unaligned.
    Ok(unsafe { &*pointer })
}

/// Writes an answer to where the caller wants it.
///
/// # Safety
/// Where it is not null, a `T` must fit there.
pub(crate) unsafe fn answer<T>(pointer: *mut T, name: &str, value: T) -> Result<(), Failure> {
    check(pointer, name)?;
    // SAFETY: The caller's promise; it is neither null nor unaligned.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Refuses addresses at which no `T` can be.
pub(crate) fn check<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::invalid(format!("{name} is not aligned")));
    }
    Ok(())
}

/// A path.
///
/// # Safety
/// Where it is not null, it must lead to a string with a NUL at its end that nobody changes for as long as `'a`.
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, Failure> {
    check(pointer, name)?;
    // SAFETY: The caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    Ok(Path::new(OsStr::from_bytes(text.to_bytes())))
}

/// Gives back what a function made with `Box::into_raw`. Null is nothing.
///
/// # Safety
/// It must have been made so, and be used by nobody any more.
pub(crate) unsafe fn give_back<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: The caller's promise.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_in_a_call_becomes_eio_with_a_sentence() {
        let answer: c_int = guard(|| panic!("as a mistake would"));
        assert_eq!(answer, -libc::EIO);
        // SAFETY: It is never null, and nothing fails in between.
        let kept = unsafe { &*error::homifs_last_error() };
        assert_eq!((kept.number, kept.nvme_status), (libc::EIO, 0));
        // SAFETY: As above.
        let text = unsafe { CStr::from_ptr(kept.message) }.to_str().expect("it is text");
        assert!(text.contains("mistake"), "{text}");
    }
}
