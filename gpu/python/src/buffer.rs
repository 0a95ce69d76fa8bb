//! Memory that Python objects lend: anything with the buffer protocol, or of a CUDA device with `__cuda_array_interface__`.

use homi_client::Target;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;

use crate::cuda::Array;

/// Contiguous, writable memory of an object, which keeps it where it is for as long.
#[derive(Debug)]
pub(crate) enum Lent {
    Process(PyUntypedBuffer),
    Device(Array),
}

impl Lent {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(array) = Array::of(object)? {
            return Ok(Self::Device(array));
        }
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
            let text = "the memory is for reading only; a bytearray, an mmap or an array can be written to";
            return Err(PyBufferError::new_err(text));
        }
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(
                "the memory is not contiguous: rows have gaps or another order",
            ));
        }
        Ok(Self::Process(buffer))
    }

    pub(crate) fn target(&mut self) -> Target<'_> {
        match self {
            // SAFETY: The object lends as many writable bytes until the buffer is released, which happens after this
            // borrow. That no other Python code writes there meanwhile is up to the program, as for `readinto`; bytes are
            // all there is, so nothing but their values depends on it.
            Self::Process(buffer) => unsafe { Target::from_raw(buffer.buf_ptr().cast(), buffer.len_bytes()) },
            Self::Device(array) => array.target(),
        }
    }
}
