//! From text to options and back.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::table::{self, Kind, Row, TABLE};
use crate::value::{Unit, parse_quantity, render_quantity};
use crate::{MountOptions, OptionError, suggest};

/// The options of a comma-separated list. A comma between double quotes does not separate, as mount(8) has it.
pub fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = list.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// Whether `help` stands among the options.
#[must_use]
pub fn asks_for_help(list: &str) -> bool {
    split(list).any(|option| option == "help")
}

impl FromStr for MountOptions {
    type Err = OptionError;

    fn from_str(list: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        options.apply(list)?;
        Ok(options)
    }
}

impl MountOptions {
    /// Applies a list of options on top of these; later ones win.
    ///
    /// # Errors
    /// Where one of them cannot be honoured.
    pub fn apply(&mut self, list: &str) -> Result<(), OptionError> {
        for option in split(list) {
            self.apply_one(option)?;
        }
        self.check()
    }

    /// As [`apply`](Self::apply), but options that nobody knows are left out; answers their names. For `mount -s`.
    ///
    /// # Errors
    /// Where one that is known cannot be honoured.
    pub fn apply_tolerant(&mut self, list: &str) -> Result<Vec<String>, OptionError> {
        let mut unknown = Vec::new();
        for option in split(list) {
            match self.apply_one(option) {
                Err(OptionError::Unknown { name, .. }) => unknown.push(name),
                other => other?,
            }
        }
        self.check()?;
        Ok(unknown)
    }

    fn check(&self) -> Result<(), OptionError> {
        if self.partition.is_some() && self.offset.is_some() {
            return Err(OptionError::Conflict { first: "partition", second: "offset" });
        }
        let depth = self.client_limits.depth;
        if !depth.is_power_of_two() {
            let expected = "a power of two from 2 to 65536".to_owned();
            return Err(OptionError::BadValue { name: "client_depth", value: depth.to_string(), expected });
        }
        Ok(())
    }

    fn apply_one(&mut self, option: &str) -> Result<(), OptionError> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(unquote(value))),
            None => (option, None),
        };
        let Some(row) = table::find(name) else {
            let names = TABLE.iter().map(|row| row.name).filter(|name| !name.ends_with('*'));
            return Err(OptionError::Unknown {
                name: name.to_owned(),
                nearest: suggest::nearest(name, names),
            });
        };
        let needed = || {
            let missing = || OptionError::NoValue { name: row.name, expected: expected(row) };
            value.filter(|value| !value.is_empty()).ok_or_else(missing)
        };
        let bad = |value: &str| OptionError::BadValue {
            name: row.name,
            value: value.to_owned(),
            expected: expected(row),
        };
        match &row.kind {
            Kind::Flag { set, .. } => match value {
                None => set(self),
                Some(value) => {
                    return Err(OptionError::StrayValue { name: row.name, value: value.to_owned() });
                }
            },
            Kind::Number { unit, min, max, set, .. } => {
                let value = needed()?;
                let number = parse_quantity(value, *unit).filter(|number| (min..=max).contains(&number));
                set(self, number.ok_or_else(|| bad(value))?);
            }
            Kind::Choice { words, set, .. } => {
                let value = needed()?;
                set(self, words.iter().find(|word| **word == value).ok_or_else(|| bad(value))?);
            }
            Kind::File { set, .. } => set(self, PathBuf::from(needed()?)),
            Kind::Lower => self.lower.push(option.to_owned()),
            Kind::Tolerated { set } => set(self),
            Kind::Refused { why } => return Err(OptionError::Refused { name: row.name, why }),
        }
        Ok(())
    }
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value)
}

/// What values an option takes, for a person.
pub(crate) fn expected(row: &Row) -> String {
    match &row.kind {
        Kind::Number { unit, min, max, .. } => {
            let what = match unit {
                Unit::Count => "a number",
                Unit::Bytes => "a size in bytes, with K, M, G or T for powers of 1024,",
                Unit::Seconds => "a time in seconds, or with s, m, h or d,",
            };
            match (min, max) {
                (0, &u64::MAX) => what.trim_end_matches(',').to_owned(),
                (min, max) => {
                    format!(
                        "{what} from {} to {}",
                        render_quantity(*min, *unit),
                        render_quantity(*max, *unit)
                    )
                }
            }
        }
        Kind::Choice { words, .. } => words.join(" or "),
        Kind::File { .. } => "a path".to_owned(),
        Kind::Flag { .. } | Kind::Lower | Kind::Tolerated { .. } | Kind::Refused { .. } => String::new(),
    }
}

/// The options that differ from the defaults, `ro` before them, in a form that is read as the same options.
impl fmt::Display for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = Self::default();
        f.write_str(if self.read_only { "ro" } else { "rw" })?;
        // Flags first, as in /proc/mounts.
        for row in TABLE {
            if let Kind::Flag { get, .. } = &row.kind
                && row.name != "ro"
                && get(self)
            {
                write!(f, ",{}", row.name)?;
            }
        }
        for row in TABLE {
            if let Some(value) =
                value_of(row, self).filter(|value| Some(value) != value_of(row, &defaults).as_ref())
            {
                let quote = if value.contains(',') { "\"" } else { "" };
                write!(f, ",{}={quote}{value}{quote}", row.name)?;
            }
        }
        for option in &self.lower {
            write!(f, ",{option}")?;
        }
        Ok(())
    }
}

/// The value of an option that has one, as it is written.
pub(crate) fn value_of(row: &Row, options: &MountOptions) -> Option<String> {
    match &row.kind {
        Kind::Number { unit, get, .. } => get(options).map(|value| render_quantity(value, *unit)),
        Kind::Choice { get, .. } => get(options).map(str::to_owned),
        Kind::File { get, .. } => get(options).map(|path| path.to_string_lossy().into_owned()),
        Kind::Flag { .. } | Kind::Lower | Kind::Tolerated { .. } | Kind::Refused { .. } => None,
    }
}
