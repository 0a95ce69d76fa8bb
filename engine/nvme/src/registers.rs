//! The controller's registers (NVMe over PCIe Transport Specification 1.1, section 3.1; NVMe Base Specification 2.1,
//! section 3.1.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_nvme_spec::{Aqa, Cap, Cc, Crto, Csts, Shutdown, ShutdownStatus, Version, register};
use engine_transport::Transport;

use crate::DriverError;
use crate::patience::Patience;

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
    /// Most entries of an I/O queue.
    pub(crate) entries: u32,
    /// CAP.DSTRD.
    pub(crate) stride: u8,
    /// The memory page that the driver uses, as a power of two.
    pub(crate) page_shift: u32,
    /// What goes into CC.CSS.
    pub(crate) command_sets: u8,
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
        let cap = Cap(cap);
        let unsupported = |reason: String| Err(DriverError::Unsupported { device: self.name(), reason });
        let (smallest, largest) = (12 + u32::from(cap.mpsmin()), 12 + u32::from(cap.mpsmax()));
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
        let entries = u32::from(cap.mqes()) + 1;
        if entries < 2 {
            return unsupported("its queues have one entry (CAP.MQES is 0); two are the fewest".to_owned());
        }
        // The NVM command set, or all that are asked for one by one.
        let command_sets = match cap.css() {
            sets if sets & 1 != 0 => 0b000,
            sets if sets & 1 << 6 != 0 => 0b110,
            sets => {
                return unsupported(format!(
                    "it has no NVM command set (CAP.CSS is {sets:#04x}): no blocks can be read from it"
                ));
            }
        };
        let mut ready = READY_UNIT * u32::from(cap.to().max(1));
        // Then CRTO tells, since CAP.TO may be too small to.
        if cap.crms() != 0 {
            let longer = Crto(self.transport.read32(register::CRTO)?).crwmt();
            if longer != u16::MAX {
                ready = ready.max(READY_UNIT * u32::from(longer));
            }
        }
        Ok(Capabilities { entries, stride: cap.dstrd(), page_shift: smallest, command_sets, ready })
    }

    /// VS.
    pub(crate) fn version(&self) -> Result<Version, DriverError> {
        Ok(Version(self.transport.read32(register::VS)?))
    }

    /// CC.
    pub(crate) fn configuration(&self) -> Result<Cc, DriverError> {
        match self.transport.read32(register::CC)? {
            u32::MAX => Err(self.gone()),
            configuration => Ok(Cc(configuration)),
        }
    }

    /// Sets CC.
    pub(crate) fn configure(&self, value: Cc) -> Result<(), DriverError> {
        Ok(self.transport.write32(register::CC, value.0)?)
    }

    /// Tells the controller of the admin queue, with at most 4096 entries.
    pub(crate) fn set_admin_queue(
        &self,
        entries: u32,
        submission: u64,
        completion: u64,
    ) -> Result<(), DriverError> {
        let last = u16::try_from(entries - 1).unwrap_or(u16::MAX);
        self.transport.write32(register::AQA, Aqa::default().with_asqs(last).with_acqs(last).0)?;
        self.transport.write64(register::ASQ, submission)?;
        Ok(self.transport.write64(register::ACQ, completion)?)
    }

    /// CSTS, of a controller that is there.
    fn state(&self) -> Result<Csts, DriverError> {
        match Csts(self.transport.read32(register::CSTS)?) {
            Csts::GONE => Err(self.gone()),
            state => Ok(state),
        }
    }

    /// Whether the controller works.
    ///
    /// # Errors
    /// Where it is gone or has failed for good.
    pub(crate) fn check(&self) -> Result<(), DriverError> {
        if self.state()?.cfs() {
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
            if ready && state.cfs() {
                return Err(DriverError::Fatal { device: self.name() });
            }
            Ok(state.rdy() == ready)
        })
    }

    /// Asks for a normal shutdown and waits until it is complete.
    ///
    /// # Errors
    /// Where it is not within `limit`.
    pub(crate) fn shut_down(&self, limit: Duration) -> Result<(), DriverError> {
        self.configure(self.configuration()?.with_shn(Shutdown::NORMAL.0))?;
        self.wait("shut down", limit, |state| Ok(ShutdownStatus(state.shst()) == ShutdownStatus::COMPLETE))
    }

    fn wait(
        &self,
        action: &'static str,
        limit: Duration,
        done: impl Fn(Csts) -> Result<bool, DriverError>,
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
