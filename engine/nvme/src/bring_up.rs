//! From a device that was found to a controller that takes commands (NVMe Base Specification 2.1, section 3.5.1).

use std::sync::Arc;

use engine_dma::to_usize;

use crate::DriverError;
use crate::admin::{AdminCommand, AdminData, AdminQueue};
use crate::data::Limits;
use crate::doorbell::{Side, place};
use crate::identify::ControllerFacts;
use crate::memory::Shared;
use crate::options::DriverOptions;
use crate::registers::{Capabilities, ENABLE, Registers};
use crate::wire::admin;

/// Longest single command: longer ones only make others wait.
const MOST_TRANSFER: u32 = 1 << 20;
/// CNS of the Identify command: the controller.
const CNS_CONTROLLER: u32 = 1;
/// Features: number of queues, asynchronous event configuration.
const FEATURE_QUEUES: u32 = 7;
const FEATURE_EVENTS: u32 = 0x0b;
/// Events worth telling of: SMART warnings, namespace and firmware notices (section 5.1.25.1.5).
const EVENTS: u32 = 0x1f | 1 << 8 | 1 << 9;

/// What was learnt while the controller was brought up, and stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) capabilities: Capabilities,
    pub(crate) facts: ControllerFacts,
    pub(crate) limits: Limits,
    pub(crate) version: (u16, u8, u8),
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
    if configuration & ENABLE != 0 {
        registers.configure(configuration & !ENABLE)?;
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
    // CC: entries of 2^4 and 2^6 bytes, round robin, page size, command set.
    let page = (capabilities.page_shift - 12) << 7;
    let configuration = 4 << 20 | 6 << 16 | page | capabilities.command_sets << 4;
    registers.configure(configuration)?;
    registers.configure(configuration | ENABLE)?;
    registers.wait_ready(true, capabilities.ready)?;

    let version = registers.version()?;
    let command = AdminCommand::new(admin::IDENTIFY, "identify controller").with([CNS_CONTROLLER]);
    let facts = ControllerFacts::parse(&queue.ask(command)?, &queue.device())?;
    let max_transfer = facts.max_transfer_pages.and_then(|pages| pages.checked_add(capabilities.page_shift));
    let max_transfer =
        max_transfer.and_then(|shift| 1_u32.checked_shl(shift)).unwrap_or(MOST_TRANSFER).min(MOST_TRANSFER);
    let limits = Limits { page_shift: capabilities.page_shift, max_transfer, sgl: options.sgl && facts.sgl };
    let queues = negotiate_queues(queue, options)?;
    let shadow = options.shadow_doorbells && facts.has_shadow_doorbells();
    let shadow = shadow && set_shadows(queue, &capabilities, queues, shadows)?;
    // Not every controller lets itself be told which events to tell; those it tells are taken as they come.
    let configure = AdminCommand::new(admin::SET_FEATURES, "choosing events").with([FEATURE_EVENTS, EVENTS]);
    match queue.call(configure, AdminData::None) {
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
    let command = AdminCommand::new(admin::SET_FEATURES, "asking for I/O queues")
        .with([FEATURE_QUEUES, wanted << 16 | wanted]);
    match queue.call(command, AdminData::None) {
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
    let last = to_usize(u64::from(place(queues, Side::Completion)) << capabilities.stride) * 4;
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
    let command = AdminCommand::new(admin::DOORBELL_BUFFERS, "setting shadow doorbells");
    let data = AdminData::Pages(values.iova(0), events.iova(0));
    match queue.call(command, data) {
        Ok(_) => Ok(true),
        Err(DriverError::Command { device, status, .. }) => {
            tracing::warn!(device, %status, "no shadow doorbells, though the controller offers them");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
