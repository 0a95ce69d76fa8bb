//! The exception.

use homi_client::ClientError;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

pyo3::create_exception!(
    homifs,
    Error,
    PyOSError,
    "What went wrong: errno, strerror and message as of OSError, and nvme_status, which is 0 where no command failed."
);

/// The exception for a failure.
pub(crate) fn raise(error: &ClientError) -> PyErr {
    made(error.errno(), error.status().0, &error.sentence())
}

fn made(errno: i32, status: u16, sentence: &str) -> PyErr {
    Python::attach(|py| {
        let exception = Error::new_err((errno, sentence.to_owned()));
        let value = exception.value(py);
        let named = value.setattr("nvme_status", status).and_then(|()| value.setattr("message", sentence));
        named.err().unwrap_or(exception)
    })
}

/// The exception for an argument that makes no sense.
pub(crate) fn no_sense(text: impl Into<String>) -> PyErr {
    PyValueError::new_err(text.into())
}

/// The exception for use after closing, as Python's own files have it.
pub(crate) fn closed() -> PyErr {
    PyValueError::new_err("I/O operation on closed file")
}

/// The exception for a file that is not the one that a snapshot saw.
pub(crate) fn stale(sentence: &str) -> PyErr {
    made(rustix::io::Errno::STALE.raw_os_error(), 0, sentence)
}
