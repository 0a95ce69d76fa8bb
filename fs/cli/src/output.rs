//! Small pieces of output that several commands share: tables, names, modes and times.

use comfy_table::{Table, presets};
use extents_core::{FileType, Timestamp};

/// A table without lines, as other tools print them.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// A name for a terminal: what would move its cursor or is no text is written as an escape.
pub(crate) fn name(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' { text.extend(c.escape_default()) } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A mode as ls shows it.
pub(crate) fn mode(mode: u16, file_type: FileType) -> String {
    let mut text = String::from(match file_type {
        FileType::Regular => "-",
        FileType::Directory => "d",
        FileType::Symlink => "l",
        FileType::CharDevice => "c",
        FileType::BlockDevice => "b",
        FileType::Fifo => "p",
        FileType::Socket => "s",
    });
    // For owner, group and others: the shift of their bits, and the bit that changes their x, with its letters.
    for (shift, special, with, without) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A time in UTC: `2024-02-29 12:00:00.000000001`.
pub(crate) fn time(at: Timestamp) -> String {
    let (days, second) = (at.seconds.div_euclid(86400), at.seconds.rem_euclid(86400));
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:09}",
        second / 3600,
        second / 60 % 60,
        second % 60,
        at.nanoseconds
    )
}

/// The Gregorian date of a day after 1970-01-01. Years begin in March here, so that leap days end them; 719468 days
/// lie between March of year 0 and 1970, 146097 in 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let january = month >= 10;
    let shown_month = if january { month - 9 } else { month + 3 };
    (era * 400 + year + i64::from(january), shown_month, day - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_known_moments_is_as_date_1_shows_it() {
        // date -u -d @N '+%F %T'
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00.000000007"),
            (-1, "1969-12-31 23:59:59.000000007"),
            (951_782_400, "2000-02-29 00:00:00.000000007"),
            (951_868_799, "2000-02-29 23:59:59.000000007"),
            (4_107_542_400, "2100-03-01 00:00:00.000000007"),
            (-2_147_483_648, "1901-12-13 20:45:52.000000007"),
            (16_299_260_425, "2486-07-02 20:20:25.000000007"),
        ] {
            assert_eq!(time(Timestamp { seconds, nanoseconds: 7 }), expected, "{seconds}");
        }
    }

    #[test]
    fn mode_shows_special_bits_as_ls_does() {
        for (bits, expected) in [
            (0o755, "-rwxr-xr-x"),
            (0o4755, "-rwsr-xr-x"),
            (0o2644, "-rw-r-Sr--"),
            (0o1777, "-rwxrwxrwt"),
            (0o1000, "---------T"),
        ] {
            assert_eq!(mode(bits, FileType::Regular), expected);
        }
    }

    #[test]
    fn name_with_bytes_that_are_no_text_is_escaped() {
        assert_eq!(name("grün".as_bytes()), "grün");
        assert_eq!(name(b"a\xff\nb\x1b[2J\\"), "a\\xff\\nb\\u{1b}[2J\\\\");
    }
}
