//! What went wrong last on a thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};

use crate::boundary::Failure;

record! {
    /// What went wrong.
    Error = "homifs_error" {
        /// As errno(3) has it, without a sign; 0 where nothing went wrong yet.
        number: c_int,
        /// Where an NVMe command failed, its status field without the phase: code in bits 0 to 7, type in bits 8 to 10,
        /// "do not retry" in bit 14. 0 where it was no command that failed.
        nvme_status: u32,
        /// A sentence: what, why and what to do. Never null.
        message: *const c_char,
    }
}

thread_local! {
    static LAST: RefCell<Option<Box<(Error, CString)>>> = const { RefCell::new(None) };
}

/// Keeps a failure for the thread that it befell.
pub(crate) fn keep(failure: &Failure) {
    let text = failure.text.replace('\0', "?");
    let text = CString::new(text).unwrap_or_default();
    let error = Error { number: failure.errno, nvme_status: failure.status.into(), message: text.as_ptr() };
    // The text's bytes stay where they are when the string moves. A thread that is ending keeps nothing.
    let _ = LAST.try_with(|last| last.replace(Some(Box::new((error, text)))));
}

functions! {
    /// What the last function of this library that failed on this thread failed from. Never null. It is there until the
    /// next one fails on this thread.
    fn homifs_last_error() -> *const Error {
        struct Nothing(Error);
        // SAFETY: The pointer in it leads to a constant.
        unsafe impl Sync for Nothing {}
        static NOTHING: Nothing = Nothing(Error { number: 0, nvme_status: 0, message: c"no error".as_ptr() });
        let kept = LAST.try_with(|last| last.borrow().as_ref().map(|kept| &raw const kept.0));
        Ok(kept.ok().flatten().unwrap_or(&raw const NOTHING.0))
    }
}
