//! From a device that was found to a controller that takes commands (NVMe Base Specification 2.1, section 3.5.1).

use std::sync::Arc;

use engine_dma::to_usize;
use engine_nvme_spec::dbbuf::place;
use engine_nvme_spec::identify::Cns;
use engine_nvme_spec::{Cc, FeatureId, Version, admin};

use crate::DriverError;
use crate::admin::AdminQueue;
use crate::data::Limits;
use crate::identify::ControllerFacts;
use crate::memory::Shared;
use crate::options::DriverOptions;
use crate::registers::{Capabilities, Registers};

/// Longest single command: longer ones only make others wait.
const MOST_TRANSFER: u32 = 1 << 20;
/// Events worth telling of (Base, section 5.1.25.1.5): SMART warnings, namespaces that change, firmware that wants in.
const EVENTS: u32 = 0xff | 1 << 8 | 1 << 9;

/// What was learnt while the controller was brought up, and stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) capabilities: Capabilities,
    pub(crate) facts: ControllerFacts,
    pub(crate) limits: Limits,
    pub(crate) version: Version,
    /// I/O queue pairs that were granted.
    pub(crate) queues: u16,
    pub(crate) shadow: bool,
}

/// The two pages of Doorbell Buffer Config.
#[derive(Debug)]
pub(crate) struct Shadows {
    pub(crate) values: Shared,
    pub(crate) events: Shared,
}

/// Disables the controller, whatever it does; afterwards it reaches no memory any more.
pub(crate) fn disable(registers: &Registers, capabilities: &Capabilities) -> Result<(), DriverError> {
    let configuration = registers.configuration()?;
    if configuration.en() {
        registers.configure(configuration.with_en(false))?;
    }
    registers.wait_ready(false, capabilities.ready)
}

/// Enables a disabled controller with `queue` as its admin queue, and learns what it is.
pub(crate) fn enable(
    queue: &mut AdminQueue,
    capabilities: Capabilities,
    options: &DriverOptions,
    shadows: &mut Option<Shadows>,
) -> Result<Properties, DriverError> {
    let registers = queue.registers().clone();
    let (submission, completion) = queue.places();
    registers.set_admin_queue(queue.entries(), submission, completion)?;
    let page = u8::try_from(capabilities.page_shift - 12).unwrap_or(0);
    // Entries of 64 and of 16 bytes.
    let configuration =
        Cc::default().with_css(capabilities.command_sets).with_mps(page).with_iosqes(6).with_iocqes(4);
    registers.configure(configuration)?;
    registers.configure(configuration.with_en(true))?;
    registers.wait_ready(true, capabilities.ready)?;

    let version = registers.version()?;
    let answer = queue.ask("identify controller", admin::identify(Cns::CONTROLLER, 0))?;
    let facts = ControllerFacts::parse(&answer, &queue.device())?;
    let max_transfer = facts.max_transfer_pages.and_then(|pages| pages.checked_add(capabilities.page_shift));
    let max_transfer =
        max_transfer.and_then(|shift| 1_u32.checked_shl(shift)).unwrap_or(MOST_TRANSFER).min(MOST_TRANSFER);
    let limits = Limits { page_shift: capabilities.page_shift, max_transfer, sgl: options.sgl && facts.sgl };
    let queues = negotiate_queues(queue, options)?;
    let shadow = options.shadow_doorbells && facts.has_shadow_doorbells();
    let shadow = shadow && set_shadows(queue, &capabilities, queues, shadows)?;
    // Not every controller lets itself be told which events to tell; those it tells are taken as they come.
    match queue.call("choosing events", admin::set_features(FeatureId::ASYNCHRONOUS_EVENTS, EVENTS)) {
        Ok(_) | Err(DriverError::Command { .. }) => {}
        Err(error) => return Err(error),
    }
    queue.listen(facts.events)?;
    Ok(Properties { capabilities, facts, limits, version, queues, shadow })
}

/// How many I/O queue pairs the controller grants (section 5.1.25.1.3).
fn negotiate_queues(queue: &mut AdminQueue, options: &DriverOptions) -> Result<u16, DriverError> {
    // Zero-based, and 65535 is not allowed.
    let wanted = u32::from(options.queues.clamp(1, u16::MAX - 1)) - 1;
    let command = admin::set_features(FeatureId::NUMBER_OF_QUEUES, wanted << 16 | wanted);
    match queue.call("asking for I/O queues", command) {
        Ok(answer) => {
            let [a, b, c, d] = answer.to_le_bytes();
            let granted = u16::from_le_bytes([a, b]).min(u16::from_le_bytes([c, d]));
            Ok(granted.saturating_add(1).min(options.queues.max(1)))
        }
        Err(DriverError::Command { device, status, .. }) => {
            Err(DriverError::Queues { device, reason: format!("it answered to the request: {status}") })
        }
        Err(error) => Err(error),
    }
}

/// Gives the controller shadow doorbells; whether it took them. Their memory stays the same for as long as the driver
/// lives, since queues hold it.
fn set_shadows(
    queue: &mut AdminQueue,
    capabilities: &Capabilities,
    queues: u16,
    shadows: &mut Option<Shadows>,
) -> Result<bool, DriverError> {
    let page = 1_usize << capabilities.page_shift;
    let last = to_usize(place(queues, true, capabilities.stride));
    if last + 4 > page {
        // They do not all fit, and half of them would be worse than none.
        return Ok(false);
    }
    if shadows.is_none() {
        let transport = Arc::clone(&queue.registers().transport);
        let values = Shared::new(&*transport, page, page)?;
        let events = Shared::new(&*transport, page, page)?;
        *shadows = Some(Shadows { values, events });
    }
    let Some(Shadows { values, events }) = shadows else { return Ok(false) };
    values.clear(0, page);
    events.clear(0, page);
    let command = admin::doorbell_buffer_config(values.iova(0), events.iova(0));
    match queue.call("setting shadow doorbells", command) {
        Ok(_) => Ok(true),
        Err(DriverError::Command { device, status, .. }) => {
            tracing::warn!(device, %status, "no shadow doorbells, though the controller offers them");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
