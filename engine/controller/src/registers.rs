//! The registers of a controller and the states that they lead through (Base, sections 3.1.4, 3.5 and 3.6).

use std::time::{Duration, Instant};

use engine_nvme_spec::{Aqa, Cap, Cc, Crto, Csts, Shutdown, ShutdownStatus, Version, register};

use crate::ControllerOptions;

/// The unit in which hosts are told how long to wait for ready, and how many are added to what it may take.
const READY_UNIT: Duration = Duration::from_millis(500);
const READY_SPARE: u8 = 2;
/// Largest memory page: `4096 << PAGE_SHIFT_MOST` bytes.
const PAGE_SHIFT_MOST: u8 = 4;

/// What a write to a register asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Nothing beyond the register.
    None,
    /// CC.EN went from 0 to 1.
    Enable,
    /// CC.EN went from 1 to 0.
    Disable,
    /// CC.SHN asks for a shutdown.
    ShutDown,
    /// The subsystem is to be reset.
    SubsystemReset,
}

/// Which reset sets the registers back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// CC.EN went to 0.
    Controller,
    /// That of the function.
    Function,
    /// That of the subsystem.
    Subsystem,
}

/// A reset that waits for backings to let go of the host's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopping {
    pub(crate) reset: Reset,
    pub(crate) since: Instant,
}

/// The registers, without doorbells.
#[derive(Debug)]
pub(crate) struct Registers {
    cap: Cap,
    cc: Cc,
    csts: Csts,
    aqa: Aqa,
    asq: u64,
    acq: u64,
    interrupt_mask: u32,
    /// How long a host should wait for ready.
    ready: u8,
    pub(crate) stopping: Option<Stopping>,
}

/// The admin queues as the registers describe them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdminQueues {
    pub(crate) submissions: u64,
    pub(crate) completions: u64,
    /// One less than the number, each.
    pub(crate) submission_entries: u16,
    pub(crate) completion_entries: u16,
    /// Bytes of a memory page.
    pub(crate) page: u64,
    /// Whether weighted round robin was chosen.
    pub(crate) weighted: bool,
}

impl Registers {
    pub(crate) fn new(options: &ControllerOptions) -> Self {
        let units = options.quiet_limit.as_nanos().div_ceil(READY_UNIT.as_nanos());
        let ready = u8::try_from(units).unwrap_or(u8::MAX).saturating_add(READY_SPARE);
        let cap = Cap::default()
            .with_mqes(u16::try_from(options.queue_entries - 1).unwrap_or(u16::MAX))
            .with_cqr(true)
            .with_ams(1)
            .with_to(ready)
            .with_dstrd(options.doorbell_stride)
            .with_nssrs(true)
            .with_css(1)
            .with_mpsmin(0)
            .with_mpsmax(PAGE_SHIFT_MOST)
            .with_crms(1);
        let (cc, csts, aqa) = (Cc::default(), Csts::default(), Aqa::default());
        Self { cap, cc, csts, aqa, asq: 0, acq: 0, interrupt_mask: 0, ready, stopping: None }
    }

    /// Which vectors are masked.
    pub(crate) fn interrupt_mask(&self) -> u32 {
        self.interrupt_mask
    }

    pub(crate) fn status(&self) -> Csts {
        self.csts
    }

    pub(crate) fn status_mut(&mut self) -> &mut Csts {
        &mut self.csts
    }

    /// The aligned 32-bit word at `offset`. What is not there reads as zeros.
    pub(crate) fn word(&self, offset: u32) -> u32 {
        let half = |word: u64, upper: bool| {
            let word = if upper { word >> 32 } else { word & 0xffff_ffff };
            u32::try_from(word).unwrap_or(0)
        };
        match offset {
            register::CAP => half(self.cap.0, false),
            0x04 => half(self.cap.0, true),
            register::VS => Version::V2_1.0,
            register::INTMS | register::INTMC => self.interrupt_mask,
            register::CC => self.cc.0,
            register::CSTS => self.csts.0,
            register::AQA => self.aqa.0,
            register::ASQ => half(self.asq, false),
            0x2c => half(self.asq, true),
            register::ACQ => half(self.acq, false),
            0x34 => half(self.acq, true),
            register::CRTO => Crto::default().with_crwmt(self.ready.into()).0,
            _ => 0,
        }
    }

    /// Writes the aligned 32-bit word at `offset`.
    pub(crate) fn set_word(&mut self, offset: u32, value: u32) -> Request {
        let with_half = |word: u64, upper: bool| {
            if upper {
                (word & 0xffff_ffff) | u64::from(value) << 32
            } else {
                (word & !0xffff_ffff) | u64::from(value)
            }
        };
        // The low twelve bits of queue addresses are reserved and read as zeros.
        const PAGE_BITS: u64 = !0xfff;
        match offset {
            register::INTMS => self.interrupt_mask |= value,
            register::INTMC => self.interrupt_mask &= !value,
            register::CC => return self.configure(Cc(value)),
            // Written with 1 to be cleared.
            register::CSTS if Csts(value).nssro() => self.csts = self.csts.with_nssro(false),
            register::NSSR if value == register::NSSR_RESET => return Request::SubsystemReset,
            // Changes while the controller is enabled have undefined results (Base, section 3.1.4.8); these have none.
            register::AQA if !self.cc.en() => {
                let aqa = Aqa(value);
                self.aqa = Aqa::default().with_asqs(aqa.asqs()).with_acqs(aqa.acqs());
            }
            register::ASQ if !self.cc.en() => self.asq = with_half(self.asq, false) & PAGE_BITS,
            0x2c if !self.cc.en() => self.asq = with_half(self.asq, true),
            register::ACQ if !self.cc.en() => self.acq = with_half(self.acq, false) & PAGE_BITS,
            0x34 if !self.cc.en() => self.acq = with_half(self.acq, true),
            _ => {}
        }
        Request::None
    }

    fn configure(&mut self, wanted: Cc) -> Request {
        let before = self.cc;
        self.cc = wanted;
        if before.en() && !wanted.en() {
            return Request::Disable;
        }
        if !before.en() && wanted.en() {
            return Request::Enable;
        }
        // What was chosen before enabling stays while enabled.
        if wanted.en() {
            self.cc = before.with_shn(wanted.shn());
            if wanted.iosqes() != 0 && before.iosqes() == 0 {
                self.cc = self.cc.with_iosqes(wanted.iosqes()).with_iocqes(wanted.iocqes());
            }
        }
        let asked = |cc: Cc| matches!(Shutdown(cc.shn()), Shutdown::NORMAL | Shutdown::ABRUPT);
        if asked(wanted) && !asked(before) { Request::ShutDown } else { Request::None }
    }

    /// The admin queues of a controller that is to be enabled; none where a setting is not supported, for which the
    /// controller answers with a fatal status.
    pub(crate) fn admin_queues(&self) -> Option<AdminQueues> {
        let cc = self.cc;
        let fits = cc.css() == 0
            && cc.mps() <= PAGE_SHIFT_MOST
            && cc.ams() <= 1
            && (cc.iosqes() == 0 || cc.iosqes() == 6)
            && (cc.iocqes() == 0 || cc.iocqes() == 4)
            && self.aqa.asqs() > 0
            && self.aqa.acqs() > 0;
        let page = 4096_u64 << cc.mps();
        let aligned = self.asq.is_multiple_of(page) && self.acq.is_multiple_of(page);
        (fits && aligned).then_some(AdminQueues {
            submissions: self.asq,
            completions: self.acq,
            submission_entries: self.aqa.asqs(),
            completion_entries: self.aqa.acqs(),
            page,
            weighted: cc.ams() == 1,
        })
    }

    /// Whether the entry sizes of I/O queues were set, without which none can be created.
    pub(crate) fn entry_sizes_set(&self) -> bool {
        self.cc.iosqes() == 6 && self.cc.iocqes() == 4
    }

    /// What a reset leaves of the registers (Base, section 3.7.2): AQA, ASQ and ACQ stay where it is the controller's,
    /// and otherwise everything is as at the beginning.
    pub(crate) fn reset(&mut self, reset: Reset) {
        (self.interrupt_mask, self.stopping) = (0, None);
        if reset == Reset::Controller {
            self.cc = self.cc.with_en(false);
            self.csts = Csts::default().with_nssro(self.csts.nssro());
            return;
        }
        self.cc = Cc::default();
        self.csts = Csts::default().with_nssro(reset == Reset::Subsystem);
        (self.aqa, self.asq, self.acq) = (Aqa::default(), 0, 0);
    }

    /// Says that a shutdown is complete.
    pub(crate) fn shut_down(&mut self) {
        self.csts = self.csts.with_shst(ShutdownStatus::COMPLETE.0);
    }
}
