//! Numbers with units.

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes, with the suffixes K, M, G and T for powers of 1024 (also written KiB and so on).
    Bytes,
    /// Seconds, with the suffixes s, m, h and d.
    Seconds,
}

impl Unit {
    /// Suffixes and their factors, the largest last.
    fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Count => &[],
            Self::Bytes => &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)],
            Self::Seconds => &[("s", 1), ("m", 60), ("h", 3600), ("d", 86400)],
        }
    }

    /// How a value is called in help.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Count => "N",
            Self::Bytes => "SIZE",
            Self::Seconds => "TIME",
        }
    }
}

/// Reads a number with an optional suffix; `None` where it is none or does not fit in 64 bits.
#[must_use]
pub fn parse_quantity(text: &str, unit: Unit) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    if suffix.is_empty() {
        return Some(number);
    }
    let suffix = match unit {
        Unit::Bytes => suffix.strip_suffix("iB").unwrap_or(suffix),
        _ => suffix,
    };
    let same = |known: &str| match unit {
        Unit::Bytes => known.eq_ignore_ascii_case(suffix),
        _ => known == suffix,
    };
    let (_, factor) = unit.suffixes().iter().find(|(known, _)| same(known))?;
    number.checked_mul(*factor)
}

/// Writes a number with the largest suffix that leaves it whole.
#[must_use]
pub fn render_quantity(value: u64, unit: Unit) -> String {
    let fitting =
        unit.suffixes().iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match fitting {
        Some((suffix, factor)) => format!("{}{suffix}", value / factor),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantity_with_suffix_is_multiplied() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("1M", 1 << 20),
            ("3G", 3 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_quantity(text, Unit::Bytes), Some(expected), "{text}");
        }
        assert_eq!(parse_quantity("24h", Unit::Seconds), Some(86400));
        assert_eq!(parse_quantity("2m", Unit::Seconds), Some(120));
    }

    #[test]
    fn quantity_that_is_none_is_refused() {
        for text in
            ["", "K", "-1", "+1", "1.5G", "1X", "1KB", "16777216T", "1 K", "0x10", "18446744073709551616"]
        {
            assert_eq!(parse_quantity(text, Unit::Bytes), None, "{text}");
        }
        assert_eq!(parse_quantity("1M", Unit::Seconds), None);
        assert_eq!(parse_quantity("1K", Unit::Count), None);
    }
}
