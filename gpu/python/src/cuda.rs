//! Memory of CUDA devices, as CuPy, Numba and PyTorch show it: `__cuda_array_interface__`, version 3.

use homi_client::Target;
use homi_client::cuda::{Device, DeviceMemory};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::{no_sense, raise};

const INTERFACE: &str = "__cuda_array_interface__";

/// An array that some object has on a device.
#[derive(Debug)]
pub(crate) struct Array {
    device: Option<Device>,
    address: u64,
    length: usize,
    /// Keeps the memory.
    _object: Py<PyAny>,
}

impl Array {
    /// The array that an object shows; none where it shows none.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        // PyTorch's tensors have the attribute, and raise AttributeError where they lie in the processor's memory.
        let Some(interface) = object.getattr_opt(INTERFACE)? else { return Ok(None) };
        let interface = interface.cast_into::<PyDict>()?;
        let entry = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
            Ok(interface.get_item(name)?.filter(|value| !value.is_none()))
        };
        let needed = |name: &str| entry(name)?.ok_or_else(|| no_sense(format!("{INTERFACE} without {name}")));
        let (address, read_only): (u64, bool) = needed("data")?.extract()?;
        let shape: Vec<usize> = needed("shape")?.extract()?;
        let kind: String = needed("typestr")?.extract()?;
        let item = kind.get(2..).and_then(|digits| digits.parse::<usize>().ok());
        let item = item.ok_or_else(|| no_sense(format!("{INTERFACE} of type {kind}")))?;
        if read_only {
            return Err(PyBufferError::new_err("the device's memory is for reading only"));
        }
        if let Some(strides) = entry("strides")?
            && strides.extract::<Vec<isize>>()? != contiguous(&shape, item)
        {
            return Err(PyBufferError::new_err(
                "the array is not contiguous: rows have gaps or another order",
            ));
        }
        if entry("mask")?.is_some() {
            return Err(PyBufferError::new_err("the array has a mask"));
        }
        let length = shape.iter().try_fold(item, |all, &one| all.checked_mul(one));
        let length = length.ok_or_else(|| no_sense("the array is larger than memory"))?;
        // An empty array has no address that the driver knows.
        let device = if length == 0 {
            None
        } else {
            Some(Device::of_address(address).map_err(|error| raise(&error))?)
        };
        if let Some(device) = &device {
            // What its owner has under way there must not come after what is read.
            object.py().detach(|| device.synchronize()).map_err(|error| raise(&error))?;
        }
        Ok(Some(Self { device, address, length, _object: object.clone().unbind() }))
    }

    pub(crate) fn target(&mut self) -> Target<'_> {
        match &self.device {
            // SAFETY: The object, which is kept, says that the memory is there and can be written to. What else is done
            // to it meanwhile is up to the program.
            Some(device) => unsafe { Target::of_device(device, self.address, self.length) },
            None => (&mut [][..]).into(),
        }
    }
}

/// The strides of an array without gaps, in bytes.
fn contiguous(shape: &[usize], item: usize) -> Vec<isize> {
    let mut stride = isize::try_from(item).unwrap_or(isize::MAX);
    let mut strides: Vec<isize> = shape
        .iter()
        .rev()
        .map(|&length| {
            let this = stride;
            stride = stride.saturating_mul(isize::try_from(length).unwrap_or(isize::MAX));
            this
        })
        .collect();
    strides.reverse();
    strides
}

/// Bytes in the memory of a CUDA device: what CuPy and PyTorch take as an array.
#[pyclass(frozen, module = "homifs")]
#[derive(Debug)]
pub(crate) struct CudaBytes {
    memory: DeviceMemory,
    length: usize,
}

impl CudaBytes {
    /// New memory on a device, filled by `read`, which answers how many bytes there were.
    pub(crate) fn filled(
        py: Python<'_>,
        device: usize,
        length: usize,
        read: impl FnOnce(Target<'_>) -> Result<usize, homi_client::ClientError> + Send,
    ) -> PyResult<Self> {
        let made = py.detach(|| {
            let memory = Device::new(device)?.allocate(length)?;
            // SAFETY: It was just made, as long as this, and nobody else knows of it.
            let target = unsafe { Target::of_device(memory.device(), memory.address(), length) };
            let length = read(target)?;
            Ok(Self { memory, length })
        });
        made.map_err(|error| raise(&error))
    }
}

#[pymethods]
impl CudaBytes {
    #[getter(__cuda_array_interface__)]
    fn interface<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("shape", PyTuple::new(py, [self.length])?)?;
        interface.set_item("typestr", "|u1")?;
        interface.set_item("data", (if self.length == 0 { 0 } else { self.memory.address() }, false))?;
        interface.set_item("strides", py.None())?;
        // Whatever filled it is done.
        interface.set_item("stream", py.None())?;
        interface.set_item("version", 3)?;
        Ok(interface)
    }

    /// The device's number.
    #[getter]
    fn device(&self) -> usize {
        self.memory.device().ordinal()
    }

    fn __len__(&self) -> usize {
        self.length
    }

    fn __repr__(&self) -> String {
        format!("<homifs.CudaBytes, {} bytes on device {}>", self.length, self.device())
    }
}
