//! Reading many ranges at once.

use std::sync::Arc;

use homi_client::{ClientError, ServedRequest, Target};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyInt};

use crate::buffer::Lent;
use crate::error::{no_sense, raise};
use crate::file::{File, Opened};

/// A range that is to be read.
struct Range<'py> {
    opened: Arc<Opened>,
    offset: u64,
    lent: Lent,
    /// The memory where it was made here, which is then the answer.
    made: Option<Bound<'py, PyByteArray>>,
}

/// Reads ranges `(file, offset, length)` into new memory and `(file, offset, buffer)` into that of the buffer; for each
/// what was read as a bytearray, or how many bytes there were.
#[pyfunction]
pub(crate) fn read_many<'py>(
    py: Python<'py>,
    ranges: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let mut asked = Vec::new();
    for range in ranges.try_iter()? {
        let (file, offset, target): (Bound<'py, File>, u64, Bound<'py, PyAny>) = range?.extract()?;
        asked.push(Range::new(&file, offset, &target)?);
    }
    let mut given: Vec<Given<'_>> =
        asked.iter_mut().map(|range| (&*range.opened, range.offset, range.lent.target())).collect();
    let read = py.detach(|| carry_out(&mut given));
    let results: Result<Vec<usize>, ClientError> = read.into_iter().collect();
    let counts = results.map_err(|error| raise(&error))?;
    let answers = asked.into_iter().zip(counts).map(|(range, count)| range.answer(py, count));
    answers.collect()
}

type Given<'a> = (&'a Opened, u64, Target<'a>);

impl<'py> Range<'py> {
    fn new(file: &Bound<'py, File>, offset: u64, target: &Bound<'py, PyAny>) -> PyResult<Self> {
        let opened = file.get().opened()?;
        let Ok(length) = target.cast::<PyInt>() else {
            return Ok(Self { opened, offset, lent: Lent::of(target)?, made: None });
        };
        let length: u64 = length.extract()?;
        // No more than there is, so that a slip of a zero does not take all memory.
        let there = length.min(opened.file.size().saturating_sub(offset));
        let there = usize::try_from(there).map_err(|_| no_sense("longer than memory"))?;
        let made = PyByteArray::new_with(file.py(), there, |_| Ok(()))?;
        Ok(Self { opened, offset, lent: Lent::of(&made)?, made: Some(made) })
    }

    /// What the caller gets.
    fn answer(self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyAny>> {
        let Some(made) = self.made else { return Ok(count.into_pyobject(py)?.into_any()) };
        // Lent memory cannot become shorter.
        drop(self.lent);
        if count < made.len() {
            made.resize(count)?;
        }
        Ok(made.into_any())
    }
}

/// Reads them all, those of one client together.
fn carry_out(given: &mut [Given<'_>]) -> Vec<Result<usize, ClientError>> {
    let mut results: Vec<Result<usize, ClientError>> = given.iter().map(|_| Ok(0)).collect();
    let mut left: Vec<usize> = (0..given.len()).collect();
    while let Some(&first) = left.first() {
        let client = Arc::clone(&given[first].0.client);
        let (mut requests, mut places) = (Vec::new(), Vec::new());
        for (place, (opened, offset, target)) in given.iter_mut().enumerate() {
            if Arc::ptr_eq(&opened.client, &client) {
                requests.push(ServedRequest { file: &opened.file, offset: *offset, target: target.again() });
                places.push(place);
            }
        }
        for (&place, result) in places.iter().zip(client.read_many(&mut requests)) {
            results[place] = result;
        }
        left.retain(|&place| !Arc::ptr_eq(&given[place].0.client, &client));
    }
    results
}
