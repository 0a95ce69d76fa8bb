//! What can be wrong with a list of options.

/// An option that cannot be honoured. The text says what, why and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No option of this name.
    #[error("unknown mount option '{name}'{}; `homifs mount -o help` lists the options", suggestion(.nearest))]
    Unknown {
        /// What was given, without its value.
        name: String,
        /// The option that was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// An option that needs a value has none.
    #[error("mount option '{name}' needs a value: {name}={expected}")]
    NoValue {
        /// The option.
        name: &'static str,
        /// What the value may be.
        expected: String,
    },
    /// An option that stands alone has a value.
    #[error("mount option '{name}' takes no value, but '{value}' was given")]
    StrayValue {
        /// The option.
        name: &'static str,
        /// What was given.
        value: String,
    },
    /// The value is none that the option knows.
    #[error("mount option '{name}={value}' is not valid: expected {expected}")]
    BadValue {
        /// The option.
        name: &'static str,
        /// What was given.
        value: String,
        /// What the value may be.
        expected: String,
    },
    /// The option is known, and cannot be honoured.
    #[error("mount option '{name}' is refused: {why}")]
    Refused {
        /// The option.
        name: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Two options contradict each other.
    #[error("mount options '{first}' and '{second}' exclude each other: give one of them")]
    Conflict {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|nearest| format!(" (did you mean '{nearest}'?)")).unwrap_or_default()
}
