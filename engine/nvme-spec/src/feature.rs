//! Features (Base, section 5.1.25.1; NVM, section 4.1.3).

open_type! {
    /// Feature identifiers.
    FeatureId(u8) {
        /// Arbitration: burst and weights.
        ARBITRATION = 0x01,
        /// Power Management.
        POWER_MANAGEMENT = 0x02,
        /// LBA Range Type.
        LBA_RANGE_TYPE = 0x03,
        /// Temperature Threshold, in Kelvin.
        TEMPERATURE_THRESHOLD = 0x04,
        /// Error Recovery.
        ERROR_RECOVERY = 0x05,
        /// Volatile Write Cache.
        VOLATILE_WRITE_CACHE = 0x06,
        /// Number of Queues: submission queues below, completion queues above, both less one.
        NUMBER_OF_QUEUES = 0x07,
        /// Interrupt Coalescing: threshold below (less one), time in units of 100 us above.
        INTERRUPT_COALESCING = 0x08,
        /// Interrupt Vector Configuration.
        INTERRUPT_VECTOR = 0x09,
        /// Write Atomicity Normal.
        WRITE_ATOMICITY = 0x0a,
        /// Asynchronous Event Configuration.
        ASYNCHRONOUS_EVENTS = 0x0b,
        /// Autonomous Power State Transition.
        POWER_TRANSITION = 0x0c,
        /// Host Memory Buffer.
        HOST_MEMORY_BUFFER = 0x0d,
        /// Timestamp, in milliseconds since 1970.
        TIMESTAMP = 0x0e,
        /// Keep Alive Timer.
        KEEP_ALIVE = 0x0f,
        /// Host Behavior Support.
        HOST_BEHAVIOR = 0x16,
        /// Sanitize Config.
        SANITIZE_CONFIG = 0x17,
        /// I/O Command Set Profile.
        COMMAND_SET_PROFILE = 0x19,
        /// Software Progress Marker.
        SOFTWARE_PROGRESS = 0x80,
        /// Host Identifier.
        HOST_IDENTIFIER = 0x81,
        /// Reservation Notification Mask.
        RESERVATION_MASK = 0x82,
        /// Reservation Persistence.
        RESERVATION_PERSISTENCE = 0x83,
        /// Namespace Write Protection Config.
        WRITE_PROTECTION = 0x84,
    }
}

open_type! {
    /// Which value of a feature is asked for (Base, figure 194).
    Select(u8) {
        /// What it is now.
        CURRENT = 0,
        /// What it is after a reset without a saved value.
        DEFAULT = 1,
        /// What was saved.
        SAVED = 2,
        /// What can be done with it: bit 0 saveable, bit 1 for each namespace, bit 2 changeable.
        SUPPORTED = 3,
    }
}

/// In dword 10 of Set Features: Save.
pub const SAVE: u32 = 1 << 31;

/// In the value of [`FeatureId::ASYNCHRONOUS_EVENTS`]: notices of changed namespaces.
pub const EVENT_NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
/// In the value of [`FeatureId::ASYNCHRONOUS_EVENTS`]: the critical warnings of SMART.
pub const EVENT_SMART_WARNINGS: u32 = 0xff;
