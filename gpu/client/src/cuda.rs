//! Memory of CUDA devices as the target of reads: commands write to the session's memory, which is registered with the
//! driver, and what each brought is copied on.
//!
//! The driver is loaded when a device is first asked for. Calls leave the thread's current context as they found it.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError, result, sys};

use crate::ClientError;
use crate::memory::Shared;

/// A CUDA device, by its primary context, which is the one that programs use as well.
#[derive(Debug, Clone)]
pub struct Device {
    context: Arc<CudaContext>,
}

/// Memory of a device, freed with this.
#[derive(Debug)]
pub struct DeviceMemory {
    device: Device,
    address: u64,
    length: usize,
}

/// Memory of this process that the driver knows, and copies from without a detour.
#[derive(Debug)]
pub(crate) struct Registered {
    device: Device,
    memory: Arc<Shared>,
}

fn failed(action: &'static str) -> impl FnOnce(DriverError) -> ClientError {
    move |error| ClientError::Accelerator { action, reason: format!("{error:?}") }
}

/// Refuses where there is no driver: the library that we load it by would panic.
fn check_driver() -> Result<(), ClientError> {
    // SAFETY: Loading the driver's library runs what it has for its start, as any program that uses CUDA does.
    if unsafe { sys::is_culib_present() } {
        return Ok(());
    }
    Err(ClientError::NoAccelerator(
        "there is no CUDA driver here (libcuda.so.1); read into memory of the processor instead".into(),
    ))
}

impl Device {
    /// The device with this number.
    ///
    /// # Errors
    /// Where there is no driver or no such device.
    pub fn new(ordinal: usize) -> Result<Self, ClientError> {
        check_driver()?;
        keeping_context(|| CudaContext::new(ordinal))
            .map(|context| Self { context })
            .map_err(failed("open the device"))
    }

    /// The device that this address belongs to.
    ///
    /// # Errors
    /// Where there is no driver, or the address is of no device's memory.
    pub fn of_address(address: u64) -> Result<Self, ClientError> {
        check_driver()?;
        result::init().map_err(failed("start"))?;
        let mut ordinal = 0_i32;
        let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
        // SAFETY: The attribute is one int, and the driver looks the address up without following it.
        let asked = unsafe {
            sys::cuPointerGetAttribute((&raw mut ordinal).cast::<c_void>(), attribute, address).result()
        };
        asked.map_err(failed("find the device of the memory; is it a device's?"))?;
        Self::new(usize::try_from(ordinal).unwrap_or(usize::MAX))
    }

    /// Its number.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }

    /// New memory on the device, of any contents.
    ///
    /// # Errors
    /// Where the device has no more.
    pub fn allocate(&self, length: usize) -> Result<DeviceMemory, ClientError> {
        let address = self.within(|| {
            // SAFETY: The memory is freed once, with what is returned. The driver makes none of no bytes.
            unsafe { result::malloc_sync(length.max(1)) }
        });
        let address = address.map_err(failed("make memory on the device"))?;
        Ok(DeviceMemory { device: self.clone(), address, length })
    }

    /// Waits until all work that the device was given is done.
    ///
    /// # Errors
    /// Where some of it failed.
    pub fn synchronize(&self) -> Result<(), ClientError> {
        self.within(result::ctx::synchronize).map_err(failed("wait for the device"))
    }

    /// Shows memory to the driver.
    pub(crate) fn register(&self, memory: &Arc<Shared>) -> Result<Registered, ClientError> {
        let (start, length) = (memory.address().cast::<c_void>(), memory.length());
        // SAFETY: The mapping is whole pages, and lasts longer than its registration (`Registered` has it).
        let registered = self.within(|| unsafe {
            sys::cuMemHostRegister_v2(start, length, sys::CU_MEMHOSTREGISTER_PORTABLE).result()
        });
        registered.map_err(failed("register memory"))?;
        Ok(Registered { device: self.clone(), memory: Arc::clone(memory) })
    }

    /// Copies bytes to the device's memory; they are there afterwards.
    ///
    /// # Safety
    /// From `source` on `length` bytes must be there, which may change meanwhile; at `address` as many of a device's memory.
    pub(crate) unsafe fn copy(
        &self,
        address: u64,
        source: *const u8,
        length: usize,
    ) -> Result<(), ClientError> {
        // SAFETY: The caller's promise.
        let copied = self.within(|| unsafe { sys::cuMemcpyHtoD_v2(address, source.cast(), length).result() });
        copied.map_err(failed("copy to the device"))
    }

    fn within<T>(&self, work: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
        keeping_context(|| {
            self.context.bind_to_thread()?;
            work()
        })
    }
}

/// Sets the thread's current context back afterwards.
fn keeping_context<T>(work: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
    result::init()?;
    let before = result::ctx::get_current()?;
    let outcome = work();
    // SAFETY: It was the current one a moment ago; null is none.
    unsafe { result::ctx::set_current(before.unwrap_or(std::ptr::null_mut())) }?;
    outcome
}

impl DeviceMemory {
    /// Where it lies on the device.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // A process that is ending has no driver any more, and no memory to free either.
        // SAFETY: It was made by `allocate`, and nobody has its address any more.
        let _ = self.device.within(|| unsafe { result::free_sync(self.address) });
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let start = self.memory.address().cast::<c_void>();
        // SAFETY: It was registered, and is still mapped.
        let _ = self.device.within(|| unsafe { sys::cuMemHostUnregister(start).result() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_without_driver_is_told_so_and_not_by_a_panic() {
        match Device::new(0) {
            Ok(device) => assert_eq!(device.ordinal(), 0),
            Err(ClientError::NoAccelerator(text)) => assert!(text.contains("libcuda"), "{text}"),
            Err(ClientError::Accelerator { reason, .. }) => assert!(reason.contains("CUDA"), "{reason}"),
            Err(other) => panic!("{other}"),
        }
    }
}
