//! The two checksums that journals use.

/// CRC-32C as the kernel chains it: no inversion at either end.
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !::crc32c::crc32c_append(!seed, bytes)
}

/// CRC-32 (polynomial 0x04c11db7, most significant bit first) as the kernel's `crc32_be` chains it. Version 1
/// checksums sum up a whole transaction with it.
#[allow(clippy::indexing_slicing, reason = "a byte indexes a table of 256 entries")]
pub(crate) fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, &byte| {
        let [top, ..] = crc.to_be_bytes();
        (crc << 8) ^ TABLE[usize::from(top ^ byte)]
    })
}

static TABLE: [u32; 256] = table();

#[allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "computed by the compiler, which would stop at an index outside"
)]
const fn table() -> [u32; 256] {
    let mut table = [0_u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_be_of_the_check_string_is_the_published_value() {
        // CRC-32/MPEG-2 of the catalogue of CRCs.
        assert_eq!(crc32_be(!0, b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn crc32c_of_the_check_string_is_the_published_value() {
        // CRC-32/ISCSI of the catalogue, whose final inversion the kernel leaves out.
        assert_eq!(crc32c(!0, b"123456789"), !0xe306_9283);
    }
}
