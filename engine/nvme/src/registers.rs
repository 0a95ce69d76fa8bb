//! The controller's registers (NVMe over PCIe Transport Specification 1.1, section 3.1; NVMe Base Specification 2.1,
//! section 3.1.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_transport::Transport;

use crate::DriverError;
use crate::patience::Patience;
use crate::ring::low32;
use crate::wire::register;

/// CSTS bits.
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;
/// CC.EN.
pub(crate) const ENABLE: u32 = 1;
/// CC.SHN: a normal shutdown.
const SHUTDOWN: u32 = 0b01 << 14;
const SHUTDOWN_FIELD: u32 = 0b11 << 14;
/// CSTS.SHST: complete.
const SHUT_DOWN: u32 = 0b10 << 2;
const SHUT_DOWN_FIELD: u32 = 0b11 << 2;

/// What CAP.TO and CRTO count in.
const READY_UNIT: Duration = Duration::from_millis(500);

/// The registers behind a transport.
#[derive(Debug, Clone)]
pub(crate) struct Registers {
    pub(crate) transport: Arc<dyn Transport>,
}

/// What CAP says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Most entries of a queue.
    pub(crate) entries: u32,
    /// CAP.DSTRD.
    pub(crate) stride: u32,
    /// The memory page that the driver uses, as a power of two.
    pub(crate) page_shift: u32,
    /// What goes into CC.CSS.
    pub(crate) command_sets: u32,
    /// How long enabling and disabling may take.
    pub(crate) ready: Duration,
}

impl Registers {
    fn name(&self) -> String {
        self.transport.name().to_owned()
    }

    fn gone(&self) -> DriverError {
        DriverError::Gone { device: self.name(), reason: "its registers read as all ones".to_owned() }
    }

    /// What the controller can do.
    ///
    /// # Errors
    /// Where it is not there, or cannot be driven.
    pub(crate) fn capabilities(&self) -> Result<Capabilities, DriverError> {
        let cap = self.transport.read64(register::CAP)?;
        if cap == u64::MAX {
            return Err(self.gone());
        }
        let unsupported = |reason: String| Err(DriverError::Unsupported { device: self.name(), reason });
        let field = |shift: u32, bits: u32| low32(cap >> shift) & ((1 << bits) - 1);
        let (smallest, largest) = (12 + field(48, 4), 12 + field(52, 4));
        if smallest > largest {
            return unsupported(format!(
                "its smallest memory page (2^{smallest} bytes) is larger than its largest (2^{largest})"
            ));
        }
        if smallest > 16 {
            return unsupported(format!(
                "its smallest memory page has 2^{smallest} bytes; 64 KiB is the most"
            ));
        }
        let entries = field(0, 16) + 1;
        if entries < 2 {
            return unsupported("its queues have one entry (CAP.MQES is 0); two are the fewest".to_owned());
        }
        // CAP.CSS: the NVM command set, or all that are asked for one by one.
        let sets = field(37, 8);
        let command_sets = match sets {
            sets if sets & 1 != 0 => 0b000,
            sets if sets & (1 << 6) != 0 => 0b110,
            _ => {
                return unsupported(format!(
                    "it has no NVM command set (CAP.CSS is {sets:#04x}): no blocks can be read from it"
                ));
            }
        };
        let mut ready = READY_UNIT * field(24, 8).max(1);
        // CAP.CRMS: CRTO tells, since CAP.TO may be too small to.
        if cap >> 59 & 0b11 != 0 {
            let longer = self.transport.read32(register::CRTO)? & 0xffff;
            if longer != 0xffff {
                ready = ready.max(READY_UNIT * longer);
            }
        }
        Ok(Capabilities { entries, stride: field(32, 4), page_shift: smallest, command_sets, ready })
    }

    /// VS: the version, as major, minor, tertiary.
    pub(crate) fn version(&self) -> Result<(u16, u8, u8), DriverError> {
        let [third, minor, low, high] = self.transport.read32(register::VS)?.to_le_bytes();
        Ok((u16::from_le_bytes([low, high]), minor, third))
    }

    /// CC.
    pub(crate) fn configuration(&self) -> Result<u32, DriverError> {
        match self.transport.read32(register::CC)? {
            u32::MAX => Err(self.gone()),
            configuration => Ok(configuration),
        }
    }

    /// Sets CC.
    pub(crate) fn configure(&self, value: u32) -> Result<(), DriverError> {
        Ok(self.transport.write32(register::CC, value)?)
    }

    /// Tells the controller of the admin queue.
    pub(crate) fn set_admin_queue(
        &self,
        entries: u32,
        submission: u64,
        completion: u64,
    ) -> Result<(), DriverError> {
        let last = entries - 1;
        self.transport.write32(register::AQA, last << 16 | last)?;
        self.transport.write64(register::ASQ, submission)?;
        Ok(self.transport.write64(register::ACQ, completion)?)
    }

    /// CSTS, of a controller that is there.
    fn state(&self) -> Result<u32, DriverError> {
        match self.transport.read32(register::CSTS)? {
            u32::MAX => Err(self.gone()),
            state => Ok(state),
        }
    }

    /// Whether the controller works.
    ///
    /// # Errors
    /// Where it is gone or has failed for good.
    pub(crate) fn check(&self) -> Result<(), DriverError> {
        if self.state()? & FATAL != 0 {
            return Err(DriverError::Fatal { device: self.name() });
        }
        Ok(())
    }

    /// Waits until CSTS.RDY is what CC.EN asks for.
    ///
    /// # Errors
    /// Where it is not within `limit`, the controller is gone, or it fails while it should become ready.
    pub(crate) fn wait_ready(&self, ready: bool, limit: Duration) -> Result<(), DriverError> {
        let action = if ready { "become ready" } else { "stop" };
        self.wait(action, limit, |state| {
            if ready && state & FATAL != 0 {
                return Err(DriverError::Fatal { device: self.name() });
            }
            Ok((state & READY != 0) == ready)
        })
    }

    /// Asks for a normal shutdown and waits until it is complete.
    ///
    /// # Errors
    /// Where it is not within `limit`.
    pub(crate) fn shut_down(&self, limit: Duration) -> Result<(), DriverError> {
        let configuration = self.configuration()?;
        self.configure(configuration & !SHUTDOWN_FIELD | SHUTDOWN)?;
        self.wait("shut down", limit, |state| Ok(state & SHUT_DOWN_FIELD == SHUT_DOWN))
    }

    fn wait(
        &self,
        action: &'static str,
        limit: Duration,
        done: impl Fn(u32) -> Result<bool, DriverError>,
    ) -> Result<(), DriverError> {
        let (start, mut patience) = (Instant::now(), Patience::sleeping());
        while !done(self.state()?)? {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(DriverError::Late { device: self.name(), action, limit });
            }
            patience.pause(&*self.transport, 0, left);
        }
        Ok(())
    }
}
