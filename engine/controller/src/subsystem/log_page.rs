//! Get Log Page (Base, section 5.1.12).

use engine_nvme_spec::{
    ANY_NAMESPACE, AdminOpcode, CommandEffects, FirmwareSlots, LogPage, NvmOpcode, Status, SupportedLogPages,
};
use zerocopy::{FromZeros, IntoBytes};

use super::facts::ControllerFacts;
use super::feature_commands::{Scope, known_features};
use super::{ControllerState, Subsystem};

/// Feature Identifiers Supported and Effects (Base, section 5.1.12.1.18).
const FEATURE_EFFECTS: LogPage = LogPage(0x12);
/// NVMe-MI Commands Supported and Effects (Base, section 5.1.12.1.19).
const MANAGEMENT_EFFECTS: LogPage = LogPage(0x13);

/// The pages that there are.
const PAGES: [LogPage; 8] = [
    LogPage::SUPPORTED_PAGES,
    LogPage::ERROR,
    LogPage::SMART,
    LogPage::FIRMWARE_SLOTS,
    LogPage::CHANGED_NAMESPACES,
    LogPage::COMMAND_EFFECTS,
    FEATURE_EFFECTS,
    MANAGEMENT_EFFECTS,
];

/// In an entry of Commands Supported and Effects.
mod effect {
    pub(super) const SUPPORTED: u32 = 1 << 0;
    pub(super) const CHANGES_BLOCKS: u32 = 1 << 1;
    /// In scope: a namespace, a controller.
    pub(super) const NAMESPACE: u32 = 1 << 20;
    pub(super) const CONTROLLER: u32 = 1 << 21;
}

/// Get Log Page, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct LogRequest {
    /// Which page.
    pub page: LogPage,
    /// Namespace.
    pub nsid: u32,
    /// Retain Asynchronous Event.
    pub retain: bool,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Whether the offset counts entries (OT); no page here has that.
    pub by_index: bool,
    /// Command set.
    pub csi: u8,
}

impl Subsystem {
    /// Carries out Get Log Page: the bytes of the page from the offset on, at most as many as were asked for, and fewer
    /// where the page ends before; the rest of what the host gave is to be zeros.
    ///
    /// # Errors
    /// The status that answers the command.
    pub fn log_page(
        &self,
        controller: &ControllerState,
        request: &LogRequest,
        facts: &ControllerFacts,
    ) -> Result<Vec<u8>, Status> {
        let invalid = Status::INVALID_FIELD.final_();
        if !PAGES.contains(&request.page) {
            return Err(Status::INVALID_LOG_PAGE.final_());
        }
        // No page here belongs to a namespace.
        let of_controller = request.nsid == 0 || request.nsid == ANY_NAMESPACE;
        if !of_controller || request.by_index || !request.offset.is_multiple_of(4) {
            return Err(invalid);
        }
        let page = match request.page {
            LogPage::SUPPORTED_PAGES => supported_pages().as_bytes().to_vec(),
            LogPage::ERROR => controller.errors.page(),
            LogPage::SMART => {
                let beyond = controller.features.values().is_beyond(self.health().temperature());
                self.health().log(controller.errors.count(), beyond).as_bytes().to_vec()
            }
            LogPage::FIRMWARE_SLOTS => self.firmware_slots().as_bytes().to_vec(),
            LogPage::CHANGED_NAMESPACES => controller.changed.page(),
            LogPage::COMMAND_EFFECTS if request.csi == 0 => command_effects(facts).as_bytes().to_vec(),
            FEATURE_EFFECTS => feature_effects(),
            // There is no management interface, so none of its commands.
            MANAGEMENT_EFFECTS => vec![0; 4096],
            _ => return Err(invalid),
        };
        let start =
            usize::try_from(request.offset).ok().filter(|&start| start <= page.len()).ok_or(invalid)?;
        let end = usize::try_from(request.length).ok().and_then(|length| start.checked_add(length));
        let end = end.map_or(page.len(), |end| end.min(page.len()));
        if !request.retain {
            let from_start = if start == 0 { end } else { 0 };
            controller.page_was_read(request.page, from_start);
        }
        Ok(page.get(start..end).unwrap_or_default().to_vec())
    }

    /// Firmware Slot Information (Base, section 5.1.12.1.4): one slot, which cannot be changed.
    fn firmware_slots(&self) -> FirmwareSlots {
        let mut slots = FirmwareSlots::new_zeroed();
        slots.active = 1;
        let [first, ..] = &mut slots.revisions;
        *first = self.identity().firmware;
        slots
    }
}

/// Supported Log Pages (Base, section 5.1.12.1.1).
fn supported_pages() -> SupportedLogPages {
    let mut supported = SupportedLogPages::new_zeroed();
    for page in PAGES {
        if let Some(entry) = supported.pages.get_mut(usize::from(page.0)) {
            *entry = 1.into();
        }
    }
    supported
}

/// Commands Supported and Effects (Base, section 5.1.12.1.6).
fn command_effects(facts: &ControllerFacts) -> CommandEffects {
    let mut effects = CommandEffects::new_zeroed();
    let plain = effect::SUPPORTED | effect::CONTROLLER;
    let admin = [
        (AdminOpcode::DELETE_SUBMISSION_QUEUE, plain),
        (AdminOpcode::CREATE_SUBMISSION_QUEUE, plain),
        (AdminOpcode::GET_LOG_PAGE, plain),
        (AdminOpcode::DELETE_COMPLETION_QUEUE, plain),
        (AdminOpcode::CREATE_COMPLETION_QUEUE, plain),
        (AdminOpcode::IDENTIFY, plain),
        (AdminOpcode::ABORT, plain),
        (AdminOpcode::SET_FEATURES, plain | effect::NAMESPACE),
        (AdminOpcode::GET_FEATURES, plain | effect::NAMESPACE),
        (AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST, plain),
        (AdminOpcode::DOORBELL_BUFFER_CONFIG, if facts.shadow_doorbells { plain } else { 0 }),
    ];
    for (opcode, bits) in admin {
        if let Some(entry) = effects.admin.get_mut(usize::from(opcode.0)) {
            *entry = bits.into();
        }
    }
    let read = effect::SUPPORTED | effect::NAMESPACE;
    let write = read | effect::CHANGES_BLOCKS;
    let io = [
        (NvmOpcode::FLUSH, true, read),
        (NvmOpcode::WRITE, true, write),
        (NvmOpcode::READ, true, read),
        (NvmOpcode::COMPARE, facts.compare, read),
        (NvmOpcode::WRITE_ZEROES, facts.write_zeroes, write),
        (NvmOpcode::DATASET_MANAGEMENT, facts.dataset_management, write),
        (NvmOpcode::VERIFY, facts.verify, read),
        (NvmOpcode::COPY, facts.copy.is_some(), write),
    ];
    for (opcode, _, bits) in io.into_iter().filter(|(_, there, _)| *there) {
        if let Some(entry) = effects.io.get_mut(usize::from(opcode.0)) {
            *entry = bits.into();
        }
    }
    effects
}

/// Feature Identifiers Supported and Effects: 4 bytes for each feature. Bit 0: supported; bits 20 and on: scope.
fn feature_effects() -> Vec<u8> {
    let mut entries = [0_u32; 256];
    for (id, scope) in known_features() {
        let scope = match scope {
            Scope::Controller => effect::CONTROLLER,
            Scope::Namespace => effect::NAMESPACE,
        };
        if let Some(entry) = entries.get_mut(usize::from(id.0)) {
            *entry = effect::SUPPORTED | scope;
        }
    }
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine_nvme_spec::Event;

    use super::super::NamespaceOptions;
    use super::super::error_log::ErrorRecord;
    use super::super::testing::{backing, subsystem};
    use super::*;

    fn request(page: u8) -> LogRequest {
        LogRequest {
            page: LogPage(page),
            nsid: u32::MAX,
            retain: false,
            offset: 0,
            length: 8192,
            by_index: false,
            csi: 0,
        }
    }

    fn fixture() -> (Arc<Subsystem>, Arc<ControllerState>) {
        let subsystem = subsystem();
        let controller = subsystem.attach_controller().unwrap();
        (subsystem, controller)
    }

    fn read(
        subsystem: &Subsystem,
        controller: &ControllerState,
        request: LogRequest,
    ) -> Result<Vec<u8>, Status> {
        subsystem.log_page(controller, &request, &ControllerFacts::default())
    }

    fn word(page: &[u8], index: usize) -> u32 {
        u32::from_le_bytes(page[index * 4..index * 4 + 4].try_into().unwrap())
    }

    #[test]
    fn page_is_supported_exactly_where_it_can_be_read() {
        let (subsystem, controller) = fixture();
        let supported = read(&subsystem, &controller, request(0)).unwrap();
        assert_eq!(supported.len(), 1024);
        for page in 0..=255 {
            let answer = read(&subsystem, &controller, request(page));
            match word(&supported, usize::from(page)) {
                1 => assert!(answer.is_ok(), "page {page:#x}"),
                0 => assert_eq!(answer, Err(Status::INVALID_LOG_PAGE.final_()), "page {page:#x}"),
                other => panic!("page {page:#x}: {other:#x}"),
            }
        }
    }

    #[test]
    fn part_of_a_page_is_that_part_and_beyond_its_end_there_is_nothing() {
        let (subsystem, controller) = fixture();
        for cid in 1..=5 {
            controller.errors.record(&ErrorRecord {
                command: Some((1, cid)),
                opcode: 2,
                status: Status::INVALID_FIELD,
                location: None,
                lba: 0,
                nsid: 1,
            });
        }
        let whole = read(&subsystem, &controller, request(1)).unwrap();
        for (offset, length) in
            [(0, 64), (64, 128), (4, 4), (4000, 1000), (4096, 4), (0, u64::MAX), (4, u64::MAX)]
        {
            let part = read(&subsystem, &controller, LogRequest { offset, length, ..request(1) }).unwrap();
            let from = usize::try_from(offset).unwrap();
            let to = usize::try_from(offset.saturating_add(length).min(4096)).unwrap();
            assert_eq!(part, whole[from..to], "{offset} {length}");
        }
        for offset in [4097, 4100, 2, u64::MAX, u64::MAX - 3] {
            let answer = read(&subsystem, &controller, LogRequest { offset, length: 4, ..request(1) });
            assert_eq!(answer, Err(Status::INVALID_FIELD.final_()), "{offset}");
        }
    }

    #[test]
    fn page_of_a_namespace_or_by_index_or_of_another_command_set_is_refused() {
        let (subsystem, controller) = fixture();
        let refused = Err(Status::INVALID_FIELD.final_());
        assert_eq!(read(&subsystem, &controller, LogRequest { nsid: 1, ..request(2) }), refused);
        assert_eq!(read(&subsystem, &controller, LogRequest { by_index: true, ..request(2) }), refused);
        assert_eq!(read(&subsystem, &controller, LogRequest { csi: 2, ..request(5) }), refused);
        assert!(read(&subsystem, &controller, LogRequest { nsid: 0, ..request(2) }).is_ok());
    }

    #[test]
    fn changed_namespaces_are_told_until_they_were_read_without_retaining() {
        let (subsystem, controller) = fixture();
        controller.events().request(1).unwrap();
        controller.events().request(2).unwrap();
        let nsid = subsystem.add_namespace(NamespaceOptions::new(backing(8192))).unwrap().nsid();
        assert_eq!(controller.events().take(), Some((1, Event::NAMESPACE_CHANGED)));
        let kept = read(&subsystem, &controller, LogRequest { retain: true, ..request(4) }).unwrap();
        assert_eq!((word(&kept, 0), word(&kept, 1)), (nsid, 0));
        subsystem.remove_namespace(nsid).unwrap();
        assert_eq!(controller.events().take(), None, "masked, since the event was retained");
        assert_eq!(word(&read(&subsystem, &controller, request(4)).unwrap(), 0), nsid);
        assert_eq!(controller.events().take(), None, "the page told it all");
        assert_eq!(word(&read(&subsystem, &controller, request(4)).unwrap(), 0), 0);
        subsystem.resize_namespace(1, 7).unwrap();
        assert_eq!(controller.events().take(), Some((2, Event::NAMESPACE_CHANGED)));
        assert_eq!(word(&read(&subsystem, &controller, request(4)).unwrap(), 0), 1);
    }

    #[test]
    fn effects_name_the_commands_that_the_facts_name() {
        let (subsystem, controller) = fixture();
        let page = read(&subsystem, &controller, request(5)).unwrap();
        assert_eq!(page.len(), 4096);
        let supported =
            |from: usize| (0..256).filter(|&op| word(&page, from + op) & 1 != 0).collect::<Vec<_>>();
        assert_eq!(supported(0), [0, 1, 2, 4, 5, 6, 8, 9, 0x0a, 0x0c, 0x7c]);
        assert_eq!(supported(256), [0, 1, 2, 5, 8, 9, 0x0c, 0x19]);
        assert_eq!(word(&page, 256 + 1) & 0xffff, 0b11, "write changes blocks");
        assert_eq!(word(&page, 256 + 2) & 0xffff, 0b01, "read does not");
        let facts = ControllerFacts { copy: None, shadow_doorbells: false, ..ControllerFacts::default() };
        let page = subsystem.log_page(&controller, &request(5), &facts).unwrap();
        assert_eq!((word(&page, 256 + 0x19), word(&page, 0x7c)), (0, 0));
    }

    #[test]
    fn feature_is_named_exactly_where_it_can_be_read() {
        let (subsystem, controller) = fixture();
        let page = read(&subsystem, &controller, request(0x12)).unwrap();
        for id in 0..=255 {
            let command = super::super::GetFeature {
                id: engine_nvme_spec::FeatureId(id),
                select: engine_nvme_spec::Select::CURRENT,
                nsid: 1,
                value: 0,
            };
            let there = subsystem.get_feature(&controller, &command, &ControllerFacts::default()).is_ok();
            assert_eq!(word(&page, usize::from(id)) & 1 != 0, there, "feature {id:#x}");
        }
    }

    #[test]
    fn firmware_and_health_stand_where_the_figures_have_them() {
        let (subsystem, controller) = fixture();
        let firmware = read(&subsystem, &controller, request(3)).unwrap();
        assert_eq!((firmware.len(), firmware[0], &firmware[8..16]), (512, 1, &b"1.2     "[..]));
        let health = read(&subsystem, &controller, request(2)).unwrap();
        assert_eq!(health.len(), 512);
        assert_eq!((health[3], health[4], health[112]), (100, 10, 1), "spare, threshold, power cycles");
    }
}
