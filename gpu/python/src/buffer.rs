//! Memory that Python objects lend: anything with the buffer protocol.

use homi_client::Target;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;

/// Contiguous, writable memory of an object, which keeps it where it is for as long.
#[derive(Debug)]
pub(crate) struct Lent {
    buffer: PyUntypedBuffer,
}

impl Lent {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object).map_err(|error| {
            let kind = object.get_type();
            let name = kind.name().map_or_else(|_| "this".to_owned(), |name| name.to_string());
            let text =
                format!("{name} lends no memory: a writable object with the buffer protocol is needed");
            let py = object.py();
            let refused = PyTypeError::new_err(text);
            refused.set_cause(py, Some(error));
            refused
        })?;
        if buffer.readonly() {
            return Err(PyBufferError::new_err(
                "the memory is for reading only; bytearray, mmap, numpy and torch have such that can be written",
            ));
        }
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(
                "the memory is not contiguous: rows have gaps or another order",
            ));
        }
        Ok(Self { buffer })
    }

    pub(crate) fn length(&self) -> usize {
        self.buffer.len_bytes()
    }

    /// The memory, to be filled.
    pub(crate) fn target(&mut self) -> Target<'_> {
        // SAFETY: The object lends as many writable bytes until the buffer is released, which happens after this borrow.
        // That no other Python code writes there meanwhile is up to the program, as for `readinto`; bytes are all there
        // is, so nothing but their values depends on it.
        unsafe { Target::from_raw(self.buffer.buf_ptr().cast(), self.length()) }
    }
}
