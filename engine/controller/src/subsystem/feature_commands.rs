//! Get Features and Set Features (Base, sections 5.1.11 and 5.1.25; NVM, section 4.1.3).

use engine_nvme_spec::{ANY_NAMESPACE, FeatureId, Select, Status};

use super::facts::ControllerFacts;
use super::features::{EVENTS_KNOWN, Timestamp, Values};
use super::namespace::{Namespace, WriteProtection};
use super::namespaces::Namespaces;
use super::{ControllerState, Subsystem};

/// Bytes of data of Host Behavior Support.
const BEHAVIOR_LENGTH: usize = 512;

/// In dword 11 of Host Identifier: 16 bytes instead of 8.
const EXTENDED_HOST_ID: u32 = 1;

/// The features that there are, whether each belongs to a namespace, and whether it can be changed.
const FEATURES: [(FeatureId, Scope, bool); 15] = [
    (FeatureId::ARBITRATION, Scope::Controller, true),
    (FeatureId::POWER_MANAGEMENT, Scope::Controller, true),
    (FeatureId::TEMPERATURE_THRESHOLD, Scope::Controller, true),
    (FeatureId::ERROR_RECOVERY, Scope::Namespace, true),
    (FeatureId::VOLATILE_WRITE_CACHE, Scope::Controller, true),
    (FeatureId::NUMBER_OF_QUEUES, Scope::Controller, true),
    (FeatureId::INTERRUPT_COALESCING, Scope::Controller, true),
    (FeatureId::INTERRUPT_VECTOR, Scope::Controller, true),
    (FeatureId::WRITE_ATOMICITY, Scope::Controller, true),
    (FeatureId::ASYNCHRONOUS_EVENTS, Scope::Controller, true),
    (FeatureId::TIMESTAMP, Scope::Controller, true),
    (FeatureId::HOST_BEHAVIOR, Scope::Controller, true),
    (FeatureId::COMMAND_SET_PROFILE, Scope::Controller, true),
    (FeatureId::HOST_IDENTIFIER, Scope::Controller, true),
    (FeatureId::WRITE_PROTECTION, Scope::Namespace, true),
];

/// What a feature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Controller,
    Namespace,
}

/// The features that there are and what each belongs to.
pub(crate) fn known_features() -> impl Iterator<Item = (FeatureId, Scope)> {
    FEATURES.iter().map(|&(id, scope, _)| (id, scope))
}

/// Set Features, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct SetFeature<'a> {
    /// Which feature.
    pub id: FeatureId,
    /// Whether it is to outlast a reset.
    pub save: bool,
    /// Namespace.
    pub nsid: u32,
    /// Dword 11.
    pub value: u32,
    /// The data, of [`feature_data_length`] bytes.
    pub data: &'a [u8],
    /// Whether there are I/O queues.
    pub has_queues: bool,
}

/// Get Features, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct GetFeature {
    /// Which feature.
    pub id: FeatureId,
    /// Which of its values.
    pub select: Select,
    /// Namespace.
    pub nsid: u32,
    /// Dword 11.
    pub value: u32,
}

/// What Get Features answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeatureAnswer {
    /// The first dword of the completion.
    pub dword: u32,
    /// The data; empty for most.
    pub data: Vec<u8>,
}

/// How many bytes of data belong to Set Features, and to Get Features of a value, of a feature with this dword 11.
#[must_use]
pub fn feature_data_length(id: FeatureId, value: u32) -> usize {
    match id {
        FeatureId::TIMESTAMP => 8,
        FeatureId::HOST_BEHAVIOR => BEHAVIOR_LENGTH,
        FeatureId::HOST_IDENTIFIER if value & EXTENDED_HOST_ID != 0 => 16,
        FeatureId::HOST_IDENTIFIER => 8,
        _ => 0,
    }
}

fn invalid<T>() -> Result<T, Status> {
    Err(Status::INVALID_FIELD.final_())
}

impl Subsystem {
    /// Carries out Set Features and answers the first dword of the completion.
    ///
    /// Namespace write protection holds for commands that start afterwards; who carries commands out flushes the
    /// backing before it answers (Base, section 8.1.16).
    ///
    /// # Errors
    /// The status that answers the command.
    pub fn set_feature(
        &self,
        controller: &ControllerState,
        command: &SetFeature<'_>,
        facts: &ControllerFacts,
    ) -> Result<u32, Status> {
        let (scope, changeable) = rule(command.id)?;
        if command.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.final_());
        }
        let namespaces = match scope {
            Scope::Controller if command.nsid == 0 || command.nsid == ANY_NAMESPACE => Vec::new(),
            Scope::Controller if Namespaces::is_valid(command.nsid) => {
                return Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.final_());
            }
            Scope::Namespace if command.nsid == ANY_NAMESPACE => self.namespaces().all(),
            _ => vec![self.active(command.nsid)?],
        };
        if !changeable {
            return Err(Status::FEATURE_NOT_CHANGEABLE.final_());
        }
        match command.id {
            FeatureId::ERROR_RECOVERY => {
                // Time-limited error recovery; errors for deallocated blocks are not supported.
                if command.value & 1 << 16 != 0 {
                    return invalid();
                }
                for namespace in namespaces {
                    namespace.set_error_recovery(command.value & 0xffff);
                }
                Ok(0)
            }
            FeatureId::WRITE_PROTECTION => {
                let Some(state) = WriteProtection::from_bits(command.value & 7) else { return invalid() };
                for namespace in namespaces {
                    if namespace.protect(state)? {
                        self.tell_change(namespace.nsid(), Some(controller.id()));
                    }
                }
                Ok(0)
            }
            _ => {
                let answer = controller.features.change(|values| set(values, command, facts))?;
                if command.id == FeatureId::TEMPERATURE_THRESHOLD
                    || command.id == FeatureId::ASYNCHRONOUS_EVENTS
                {
                    self.look_at_temperature(controller);
                }
                Ok(answer)
            }
        }
    }

    /// Carries out Get Features.
    ///
    /// # Errors
    /// The status that answers the command.
    pub fn get_feature(
        &self,
        controller: &ControllerState,
        command: &GetFeature,
        facts: &ControllerFacts,
    ) -> Result<FeatureAnswer, Status> {
        let (scope, changeable) = rule(command.id)?;
        if command.select == Select::SUPPORTED {
            let dword = u32::from(scope == Scope::Namespace) << 1 | u32::from(changeable) << 2;
            return Ok(FeatureAnswer { dword, data: Vec::new() });
        }
        let namespace = match scope {
            Scope::Namespace => Some(self.active(command.nsid)?),
            Scope::Controller => None,
        };
        let values = match command.select {
            Select::CURRENT => controller.features.values().clone(),
            // What cannot be saved has no saved value, and then the default is asked for.
            Select::DEFAULT | Select::SAVED => Values::default(),
            _ => return invalid(),
        };
        let is_default = command.select != Select::CURRENT;
        get(&values, namespace.as_deref().filter(|_| !is_default), command, facts)
    }

    /// A namespace that a command names alone.
    fn active(&self, nsid: u32) -> Result<std::sync::Arc<Namespace>, Status> {
        if !Namespaces::is_valid(nsid) {
            return Err(Status::INVALID_NAMESPACE.final_());
        }
        self.namespaces().get(nsid).ok_or(Status::INVALID_FIELD.final_())
    }
}

fn rule(id: FeatureId) -> Result<(Scope, bool), Status> {
    let rule = FEATURES.iter().find(|(known, ..)| *known == id);
    rule.map(|&(_, scope, changeable)| (scope, changeable)).ok_or(Status::INVALID_FIELD.final_())
}

fn set(values: &mut Values, command: &SetFeature<'_>, facts: &ControllerFacts) -> Result<u32, Status> {
    let value = command.value;
    match command.id {
        FeatureId::ARBITRATION => values.arbitration = value & 0xffff_ff07,
        // There is one power state, 0; bits 5 to 7 are a hint.
        FeatureId::POWER_MANAGEMENT if value & 0x1f == 0 => values.power = value & 0xe0,
        FeatureId::TEMPERATURE_THRESHOLD => set_threshold(values, value)?,
        FeatureId::VOLATILE_WRITE_CACHE => values.write_cache = value & 1 != 0,
        FeatureId::NUMBER_OF_QUEUES => {
            if command.has_queues {
                return Err(Status::COMMAND_SEQUENCE_ERROR.final_());
            }
            let [submission, completion] = [value & 0xffff, value >> 16];
            if submission == 0xffff || completion == 0xffff {
                return invalid();
            }
            let grant = |asked: u32| u16::try_from(asked + 1).unwrap_or(u16::MAX).min(facts.queues.max(1));
            let granted = (grant(submission), grant(completion));
            values.queues = Some(granted);
            return Ok(queues_dword(granted));
        }
        FeatureId::INTERRUPT_COALESCING => values.coalescing = value & 0xffff,
        FeatureId::INTERRUPT_VECTOR => {
            let vector = vector(value, facts)?;
            if value & 1 << 16 == 0 {
                values.uncoalesced.remove(&vector);
            } else {
                values.uncoalesced.insert(vector);
            }
        }
        FeatureId::WRITE_ATOMICITY => values.write_atomicity = value & 1,
        // Events that this controller never tells of are not remembered as wanted.
        FeatureId::ASYNCHRONOUS_EVENTS => values.events = value & EVENTS_KNOWN,
        FeatureId::TIMESTAMP => values.timestamp = Timestamp::from_host(bytes(command.data)?),
        FeatureId::HOST_BEHAVIOR => {
            let behavior = bytes::<3>(command.data)?;
            // Each is off or on. Extended formats (LBAFEE) and telemetry areas (ETDAS) ask for nothing here.
            if behavior.iter().any(|&byte| byte > 1) {
                return invalid();
            }
            values.behavior = behavior;
        }
        // There is one combination of command sets, 0: the NVM command set alone.
        FeatureId::COMMAND_SET_PROFILE if value & 0x1ff == 0 => {}
        FeatureId::HOST_IDENTIFIER if value & EXTENDED_HOST_ID != 0 => values.host_id = bytes(command.data)?,
        FeatureId::HOST_IDENTIFIER => {
            let short: [u8; 8] = bytes(command.data)?;
            values.host_id = [0; 16];
            values.host_id[..8].copy_from_slice(&short);
        }
        _ => return invalid(),
    }
    Ok(0)
}

/// The first `N` bytes of the data.
fn bytes<const N: usize>(data: &[u8]) -> Result<[u8; N], Status> {
    data.first_chunk().copied().ok_or(Status::INVALID_FIELD.final_())
}

/// Temperature Threshold (Base, section 5.1.25.1.3).
fn set_threshold(values: &mut Values, value: u32) -> Result<(), Status> {
    let (sensor, kind) = (value >> 16 & 0xf, value >> 20 & 3);
    // The composite temperature, or all there are; this controller has no further sensors.
    if !matches!(sensor, 0 | 0xf) || value >> 22 & 7 != 0 {
        return invalid();
    }
    let [low, high, ..] = value.to_le_bytes();
    let kelvin = u16::from_le_bytes([low, high]);
    match kind {
        0 => values.over = kelvin,
        1 => values.under = kelvin,
        _ => return invalid(),
    }
    Ok(())
}

fn vector(value: u32, facts: &ControllerFacts) -> Result<u16, Status> {
    let [low, high, ..] = value.to_le_bytes();
    let vector = u16::from_le_bytes([low, high]);
    if vector < facts.vectors { Ok(vector) } else { invalid() }
}

fn queues_dword((submission, completion): (u16, u16)) -> u32 {
    u32::from(submission.saturating_sub(1)) | u32::from(completion.saturating_sub(1)) << 16
}

fn get(
    values: &Values,
    namespace: Option<&Namespace>,
    command: &GetFeature,
    facts: &ControllerFacts,
) -> Result<FeatureAnswer, Status> {
    let mut data = Vec::new();
    let dword = match command.id {
        FeatureId::ARBITRATION => values.arbitration,
        FeatureId::POWER_MANAGEMENT => values.power,
        FeatureId::TEMPERATURE_THRESHOLD => match (command.value >> 16 & 0xf, command.value >> 20 & 3) {
            (0, 0) => values.over.into(),
            (0, 1) => values.under.into(),
            _ => return invalid(),
        },
        FeatureId::ERROR_RECOVERY => namespace.map_or(0, Namespace::error_recovery),
        FeatureId::VOLATILE_WRITE_CACHE => values.write_cache.into(),
        FeatureId::NUMBER_OF_QUEUES => queues_dword(values.queues.unwrap_or((facts.queues, facts.queues))),
        FeatureId::INTERRUPT_COALESCING => values.coalescing,
        FeatureId::INTERRUPT_VECTOR => {
            let vector = vector(command.value, facts)?;
            u32::from(vector) | u32::from(values.uncoalesced.contains(&vector)) << 16
        }
        FeatureId::WRITE_ATOMICITY => values.write_atomicity,
        FeatureId::ASYNCHRONOUS_EVENTS => values.events,
        FeatureId::TIMESTAMP => {
            data = values.timestamp.to_host().to_vec();
            0
        }
        FeatureId::HOST_BEHAVIOR => {
            data = values.behavior.to_vec();
            data.resize(BEHAVIOR_LENGTH, 0);
            0
        }
        FeatureId::COMMAND_SET_PROFILE => 0,
        FeatureId::HOST_IDENTIFIER => {
            let length = feature_data_length(command.id, command.value);
            data = values.host_id.get(..length).unwrap_or_default().to_vec();
            0
        }
        FeatureId::WRITE_PROTECTION => namespace.map_or(0, |namespace| namespace.protection().bits()),
        _ => return invalid(),
    };
    Ok(FeatureAnswer { dword, data })
}

#[cfg(test)]
mod tests {
    use engine_nvme_spec::Event;

    use super::super::testing::subsystem;
    use super::*;

    struct Fixture {
        subsystem: std::sync::Arc<Subsystem>,
        controller: std::sync::Arc<ControllerState>,
        facts: ControllerFacts,
    }

    impl Fixture {
        fn new() -> Self {
            let subsystem = subsystem();
            let controller = subsystem.attach_controller().unwrap();
            let facts = ControllerFacts { queues: 8, vectors: 4, ..ControllerFacts::default() };
            Self { subsystem, controller, facts }
        }

        fn set_with(&self, id: FeatureId, nsid: u32, value: u32, data: &[u8]) -> Result<u32, Status> {
            let command = SetFeature { id, save: false, nsid, value, data, has_queues: false };
            self.subsystem.set_feature(&self.controller, &command, &self.facts)
        }

        fn set(&self, id: FeatureId, value: u32) -> Result<u32, Status> {
            self.set_with(id, 0, value, &[])
        }

        fn get_with(
            &self,
            id: FeatureId,
            select: Select,
            nsid: u32,
            value: u32,
        ) -> Result<FeatureAnswer, Status> {
            let command = GetFeature { id, select, nsid, value };
            self.subsystem.get_feature(&self.controller, &command, &self.facts)
        }

        fn get(&self, id: FeatureId) -> Result<u32, Status> {
            self.get_with(id, Select::CURRENT, 0, 0).map(|answer| answer.dword)
        }
    }

    const INVALID: Status = Status(0x4002);

    #[test]
    fn value_set_is_value_read_and_default_stays() {
        let fixture = Fixture::new();
        for (id, value, default) in [
            (FeatureId::ARBITRATION, 0x0102_0304, 7),
            (FeatureId::POWER_MANAGEMENT, 0x20, 0),
            (FeatureId::VOLATILE_WRITE_CACHE, 0, 1),
            (FeatureId::INTERRUPT_COALESCING, 0x0507, 0),
            (FeatureId::WRITE_ATOMICITY, 1, 0),
            (FeatureId::ASYNCHRONOUS_EVENTS, 0x102, 0x1ff),
        ] {
            assert_eq!(fixture.get(id), Ok(default), "{id:?}");
            assert_eq!(fixture.set(id, value), Ok(0), "{id:?}");
            assert_eq!(fixture.get(id), Ok(value), "{id:?}");
            for select in [Select::DEFAULT, Select::SAVED] {
                assert_eq!(fixture.get_with(id, select, 0, 0).unwrap().dword, default, "{id:?}");
            }
        }
        fixture.controller.reset();
        assert_eq!(fixture.get(FeatureId::ARBITRATION), Ok(7));
    }

    #[test]
    fn number_of_queues_is_granted_up_to_what_there_are_and_not_after_queues_exist() {
        let fixture = Fixture::new();
        let id = FeatureId::NUMBER_OF_QUEUES;
        assert_eq!(fixture.get(id), Ok(0x0007_0007));
        assert_eq!(fixture.set(id, 0x0001_00fe), Ok(0x0001_0007));
        assert_eq!(fixture.get(id), Ok(0x0001_0007));
        assert_eq!(fixture.controller.features().queues(8), (8, 2));
        assert_eq!(fixture.set(id, 0x0000_ffff), Err(INVALID));
        assert_eq!(fixture.set(id, 0xffff_0000), Err(INVALID));
        let command = SetFeature { id, save: false, nsid: 0, value: 0, data: &[], has_queues: true };
        let refused = fixture.subsystem.set_feature(&fixture.controller, &command, &fixture.facts);
        assert_eq!(refused, Err(Status::COMMAND_SEQUENCE_ERROR.final_()));
    }

    #[test]
    fn feature_that_is_unknown_saved_or_named_for_a_namespace_is_refused() {
        let fixture = Fixture::new();
        for id in [0, 3, 0x0c, 0x0d, 0x0f, 0x80, 0x82, 0xff] {
            assert_eq!(fixture.get(FeatureId(id)), Err(INVALID), "{id:#x}");
            assert_eq!(fixture.set(FeatureId(id), 0), Err(INVALID), "{id:#x}");
        }
        let id = FeatureId::ARBITRATION;
        let refused = Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.final_());
        assert_eq!(fixture.set_with(id, 1, 0, &[]), refused);
        assert_eq!(fixture.set_with(id, u32::MAX, 0, &[]), Ok(0));
        let command = SetFeature { id, save: true, nsid: 0, value: 0, data: &[], has_queues: false };
        let refused = fixture.subsystem.set_feature(&fixture.controller, &command, &fixture.facts);
        assert_eq!(refused, Err(Status::FEATURE_NOT_SAVEABLE.final_()));
    }

    #[test]
    fn what_can_be_done_with_a_feature_is_told() {
        let fixture = Fixture::new();
        for (id, expected) in [(FeatureId::ARBITRATION, 0b100), (FeatureId::WRITE_PROTECTION, 0b110)] {
            assert_eq!(fixture.get_with(id, Select::SUPPORTED, 0, 0).unwrap().dword, expected);
        }
        assert_eq!(fixture.get_with(FeatureId::ARBITRATION, Select(4), 0, 0), Err(INVALID));
    }

    #[test]
    fn write_protection_belongs_to_a_namespace() {
        let fixture = Fixture::new();
        let id = FeatureId::WRITE_PROTECTION;
        let get = |nsid| fixture.get_with(id, Select::CURRENT, nsid, 0).map(|answer| answer.dword);
        let namespace = fixture.subsystem.namespaces().get(1).unwrap();
        assert_eq!(get(1), Ok(0));
        assert_eq!(fixture.set_with(id, 1, 1, &[]), Ok(0));
        assert_eq!(get(1), Ok(1));
        assert!(!namespace.is_writable());
        assert_eq!(fixture.set_with(id, 1, 3, &[]), Err(INVALID), "permanent");
        assert_eq!(fixture.set_with(id, 1, 2, &[]), Ok(0));
        assert_eq!(fixture.set_with(id, 1, 0, &[]), Err(Status::FEATURE_NOT_CHANGEABLE.final_()));
        for nsid in [0, u32::MAX] {
            assert_eq!(get(nsid), Err(Status::INVALID_NAMESPACE.final_()));
        }
        assert_eq!(get(2), Err(INVALID), "not active");
    }

    #[test]
    fn change_of_protection_is_told_to_the_other_controllers() {
        let fixture = Fixture::new();
        let other = fixture.subsystem.attach_controller().unwrap();
        for controller in [&fixture.controller, &other] {
            controller.events().request(1).unwrap();
        }
        fixture.set_with(FeatureId::WRITE_PROTECTION, 1, 1, &[]).unwrap();
        assert_eq!(fixture.controller.events().take(), None);
        assert_eq!(other.events().take(), Some((1, Event::NAMESPACE_CHANGED)));
    }

    #[test]
    fn thresholds_are_of_the_composite_temperature_and_raise_an_event_when_crossed() {
        let fixture = Fixture::new();
        let id = FeatureId::TEMPERATURE_THRESHOLD;
        let get = |value| fixture.get_with(id, Select::CURRENT, 0, value).map(|answer| answer.dword);
        assert_eq!((get(0), get(1 << 20)), (Ok(0xffff), Ok(0)));
        for value in [1 << 16, 2 << 20, 1 << 22] {
            assert_eq!(fixture.set(id, value), Err(INVALID), "{value:#x}");
        }
        fixture.controller.events().request(5).unwrap();
        assert_eq!(fixture.set(id, 1 << 20 | 270), Ok(0));
        assert_eq!(get(1 << 20), Ok(270));
        assert_eq!(fixture.controller.events().take(), None);
        assert_eq!(fixture.set(id, 290), Ok(0));
        assert_eq!(fixture.controller.events().take(), Some((5, Event::TEMPERATURE)), "it has 298 K");
    }

    #[test]
    fn vector_that_there_is_can_be_excluded_from_coalescing() {
        let fixture = Fixture::new();
        let id = FeatureId::INTERRUPT_VECTOR;
        assert_eq!(fixture.set(id, 1 << 16 | 3), Ok(0));
        let read = |vector| fixture.get_with(id, Select::CURRENT, 0, vector).map(|answer| answer.dword);
        assert_eq!((read(3), read(2)), (Ok(1 << 16 | 3), Ok(2)));
        assert!(fixture.controller.features().is_uncoalesced(3));
        assert_eq!(fixture.set(id, 4), Err(INVALID));
        assert_eq!(read(4), Err(INVALID));
    }

    #[test]
    fn data_of_features_comes_back() {
        let fixture = Fixture::new();
        let read = |id, value| fixture.get_with(id, Select::CURRENT, 0, value).unwrap().data;
        let long: Vec<u8> = (1..=16).collect();
        assert_eq!(fixture.set_with(FeatureId::HOST_IDENTIFIER, 0, 1, &long), Ok(0));
        assert_eq!(read(FeatureId::HOST_IDENTIFIER, 1), long);
        assert_eq!(fixture.set_with(FeatureId::HOST_IDENTIFIER, 0, 0, &[7; 8]), Ok(0));
        assert_eq!(read(FeatureId::HOST_IDENTIFIER, 0), [7; 8]);

        let mut behavior = vec![0; 512];
        behavior[0] = 1;
        assert_eq!(fixture.set_with(FeatureId::HOST_BEHAVIOR, 0, 0, &behavior), Ok(0));
        assert!(fixture.controller.features().retry_delays());
        assert_eq!(read(FeatureId::HOST_BEHAVIOR, 0), behavior);
        behavior[0] = 2;
        assert_eq!(fixture.set_with(FeatureId::HOST_BEHAVIOR, 0, 0, &behavior), Err(INVALID));

        assert_eq!(fixture.set_with(FeatureId::TIMESTAMP, 0, 0, &[1, 0, 0, 0, 0, 1, 0, 0]), Ok(0));
        let time = read(FeatureId::TIMESTAMP, 0);
        assert_eq!((time.len(), time[5], time[6]), (8, 1, 2));
        assert_eq!(fixture.set_with(FeatureId::TIMESTAMP, 0, 0, &[1, 2, 3]), Err(INVALID), "too short");
    }

    #[test]
    fn lengths_of_data_are_those_that_are_given_and_taken() {
        let fixture = Fixture::new();
        for (id, value) in [
            (FeatureId::TIMESTAMP, 0),
            (FeatureId::HOST_BEHAVIOR, 0),
            (FeatureId::HOST_IDENTIFIER, 0),
            (FeatureId::HOST_IDENTIFIER, 1),
            (FeatureId::ARBITRATION, 0),
        ] {
            let data = fixture.get_with(id, Select::CURRENT, 0, value).unwrap().data;
            assert_eq!(data.len(), feature_data_length(id, value), "{id:?}");
        }
    }
}
