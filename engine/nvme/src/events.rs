//! What a controller tells by itself (NVMe Base Specification 2.1, section 5.1.2).

use crate::DriverError;
use crate::admin::{AdminCommand, AdminQueue, Event};
use crate::ring::low16;
use crate::wire::admin;

/// Bytes of a log page that are read to acknowledge an event.
const READ: u32 = 512;
/// The SMART / health information log page.
const HEALTH: u8 = 2;

/// Tells of an event in the log, and reads the log page that belongs to it, without which the controller does not tell
/// of another of its kind.
pub(crate) fn attend(queue: &mut AdminQueue, event: Event) -> Result<(), DriverError> {
    let [kind, information, page, _] = event.dw0.to_le_bytes();
    let kind = kind & 7;
    let command = AdminCommand::new(admin::GET_LOG_PAGE, "reading a log page");
    let command = command.on(u32::MAX).with(log_dwords(page, READ));
    let answer = match queue.ask(command) {
        Ok(answer) => Some(answer),
        Err(DriverError::Command { .. }) => None,
        Err(error) => return Err(error),
    };
    let device = queue.device();
    let what = match (kind, information) {
        (0, _) => "an error in what the driver wrote to it",
        (1, 0) => "its reliability is degraded",
        (1, 1) => "its temperature is beyond a threshold",
        (1, 2) => "its spare space is below the threshold",
        (1, _) => "its health has changed",
        (2, 0) => "a namespace has changed, come or gone",
        (2, 1) => "a new firmware wants to be activated",
        (2, _) => "a notice",
        (6, _) => "an event of an I/O command",
        (_, _) => "an event that is not known here",
    };
    let warning = answer.filter(|_| page == HEALTH).map(|[critical, ..]| critical);
    match kind {
        0 | 1 => tracing::warn!(
            device,
            event = format_args!("{:#x}", event.dw0),
            warning,
            "the controller tells: {what}"
        ),
        _ => tracing::info!(device, event = format_args!("{:#x}", event.dw0), "the controller tells: {what}"),
    }
    Ok(())
}

/// Dword 10 and 11 of a Get Log Page command for `bytes` bytes of a page.
pub(crate) fn log_dwords(page: u8, bytes: u32) -> [u32; 2] {
    let count = u64::from(bytes / 4).saturating_sub(1);
    [u32::from(low16(count)) << 16 | u32::from(page), u32::from(low16(count >> 16))]
}
