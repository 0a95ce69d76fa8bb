//! What a controller tells by itself (NVMe Base Specification 2.1, section 5.1.2).

use engine_nvme_spec::{ANY_NAMESPACE, Event, EventType, LogPage, admin};

use crate::DriverError;
use crate::admin::AdminQueue;

/// Bytes of a log page that are read to acknowledge an event.
const READ: u32 = 512;

/// Tells of an event in the log, and reads the log page that belongs to it, without which the controller does not tell
/// of another of its kind.
pub(crate) fn attend(queue: &mut AdminQueue, event: Event) -> Result<(), DriverError> {
    let command = admin::get_log_page(event.page, ANY_NAMESPACE, 0, READ, false);
    let answer = match queue.ask("reading a log page", command) {
        Ok(answer) => Some(answer),
        Err(DriverError::Command { .. }) => None,
        Err(error) => return Err(error),
    };
    let device = queue.device();
    let what = match (event.kind, event.information) {
        (EventType::ERROR, _) => "an error in what the driver wrote to it",
        (EventType::SMART, 0) => "its reliability is degraded",
        (EventType::SMART, 1) => "its temperature is beyond a threshold",
        (EventType::SMART, 2) => "its spare space is below the threshold",
        (EventType::SMART, _) => "its health has changed",
        (EventType::NOTICE, 0) => "a namespace has changed, come or gone",
        (EventType::NOTICE, 1) => "a new firmware wants to be activated",
        (EventType::NOTICE, _) => "a notice",
        (EventType::COMMAND_SET, _) => "an event of an I/O command",
        (_, _) => "an event that is not known here",
    };
    if matches!(event.kind, EventType::ERROR | EventType::SMART) {
        let critical = answer.filter(|_| event.page == LogPage::SMART).map(|[critical, ..]| critical);
        tracing::warn!(device, ?event, critical, "the controller tells: {what}");
    } else {
        tracing::info!(device, ?event, "the controller tells: {what}");
    }
    Ok(())
}
