//! What a subsystem calls itself (Base, section 5.1.13.2.1: SN, MN, FR, SUBNQN).

use std::fmt::Write;

/// What a subsystem calls itself. Texts are printable ASCII, filled up with spaces as the specification wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub(crate) serial: [u8; 20],
    pub(crate) model: [u8; 40],
    pub(crate) firmware: [u8; 8],
    pub(crate) nqn: String,
    pub(crate) vendor: u16,
    pub(crate) subsystem_vendor: u16,
}

/// A name that a subsystem cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Too long, empty, or with characters that are not printable ASCII.
    #[error("{field} {text:?} cannot be used: it takes 1 to {most} printable ASCII characters")]
    Text {
        /// Which of the names.
        field: &'static str,
        /// What it was to be.
        text: String,
        /// Most characters.
        most: usize,
    },
    /// No NVMe Qualified Name.
    #[error(
        "subsystem name {0:?} cannot be used: it must start with \"nqn.\" and have at most 223 printable characters"
    )]
    Nqn(String),
}

impl Identity {
    /// With these names. Without an `nqn` one is made from the serial number (Base, section 4.7).
    ///
    /// # Errors
    /// Where one of them is too long or has characters that do not belong there.
    pub fn new(
        serial: &str,
        model: &str,
        firmware: &str,
        nqn: Option<&str>,
        vendors: (u16, u16),
    ) -> Result<Self, IdentityError> {
        let nqn = match nqn {
            None => uuid_name(stable_id(&[b"subsystem", serial.as_bytes()])),
            Some(nqn)
                if nqn.starts_with("nqn.")
                    && nqn.len() <= 223
                    && nqn.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                nqn.to_owned()
            }
            Some(nqn) => return Err(IdentityError::Nqn(nqn.to_owned())),
        };
        Ok(Self {
            serial: padded("serial number", serial)?,
            model: padded("model number", model)?,
            firmware: padded("firmware revision", firmware)?,
            nqn,
            vendor: vendors.0,
            subsystem_vendor: vendors.1,
        })
    }

    /// The name by which hosts know the subsystem again.
    #[must_use]
    pub fn nqn(&self) -> &str {
        &self.nqn
    }
}

/// Text, filled up with spaces.
fn padded<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], IdentityError> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let mut bytes = [b' '; N];
    match bytes.get_mut(..text.len()) {
        Some(place) if printable && !text.trim().is_empty() => place.copy_from_slice(text.as_bytes()),
        _ => return Err(IdentityError::Text { field, text: text.to_owned(), most: N }),
    }
    Ok(bytes)
}

/// A number of 128 bits that follows from `parts` and from nothing else, in the form of a UUID of version 8 (RFC 9562,
/// section 5.8). The same parts give the same number in every run and on every machine.
pub(crate) fn stable_id(parts: &[&[u8]]) -> [u8; 16] {
    // FNV-1a with 128 bits, which needs no table and no secret: nothing is guarded by it.
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = OFFSET;
    for part in parts {
        let length = part.len().to_le_bytes();
        for byte in part.iter().chain(&length) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    let version = (hash & !(0xf << 76)) | 8 << 76;
    let variant = (version & !(3 << 62)) | 2 << 62;
    variant.to_be_bytes()
}

/// The NVMe Qualified Name of a UUID (Base, section 4.7).
fn uuid_name(uuid: [u8; 16]) -> String {
    let mut name = String::from("nqn.2014-08.org.nvmexpress:uuid:");
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            name.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_serial(serial: &str) -> Result<Identity, IdentityError> {
        Identity::new(serial, "model", "1.0", None, (0, 0))
    }

    #[test]
    fn texts_are_filled_up_with_spaces() {
        let identity = with_serial("S1").unwrap();
        assert_eq!(&identity.serial, b"S1                  ");
        assert_eq!(&identity.firmware, b"1.0     ");
    }

    #[test]
    fn text_that_does_not_fit_or_cannot_be_printed_is_refused() {
        for serial in ["", "  ", "123456789012345678901", "a\u{e9}", "a\n"] {
            assert!(with_serial(serial).is_err(), "{serial:?}");
        }
        assert!(with_serial("12345678901234567890").is_ok());
        let nqn = |nqn: &str| Identity::new("S", "M", "F", Some(nqn), (0, 0));
        assert!(nqn("iqn.2014-08.org").is_err());
        assert!(nqn(&format!("nqn.{}", "x".repeat(220))).is_err());
        assert_eq!(nqn("nqn.2026-01.example:a").unwrap().nqn(), "nqn.2026-01.example:a");
    }

    #[test]
    fn name_made_from_a_serial_number_is_a_uuid_name_and_always_the_same() {
        let one = with_serial("S1").unwrap();
        assert_eq!(one.nqn, with_serial("S1").unwrap().nqn);
        assert_ne!(one.nqn, with_serial("S2").unwrap().nqn);
        let uuid = one.nqn.strip_prefix("nqn.2014-08.org.nvmexpress:uuid:").unwrap();
        let parts: Vec<&str> = uuid.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('8'), "version of {uuid}");
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "variant of {uuid}");
    }

    #[test]
    fn stable_id_tells_where_one_part_ends_and_the_next_begins() {
        assert_ne!(stable_id(&[b"ab", b"c"]), stable_id(&[b"a", b"bc"]));
    }
}
