//! Times that need more than 31 bits of seconds.

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{Place, file};

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("times")?;
    // 1901, 1969, 1970, 2001, 2038, 2106, 2174, 2310, 2446, 2486, and what no format has; the kernel cuts those.
    let seconds: [i64; 17] = [
        -9_000_000_000,
        -0x8000_0001,
        -0x8000_0000,
        -86_400,
        -1,
        0,
        1_000_000_000,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0x1_0000_0000,
        0x1_7FFF_FFFF,
        0x1_8000_0000,
        0x2_8000_0000,
        0x3_7FFF_FFFF,
        0x3_8000_0000,
        16_299_260_425,
    ];
    for (number, second) in seconds.into_iter().enumerate() {
        let path = folder.join(format!("{number:02}-{second}"));
        file(&path, 1)?;
        let modified = Timespec { tv_sec: second, tv_nsec: [0, 1, 999_999_999, 123_456_789][number % 4] };
        let accessed = Timespec { tv_sec: second.saturating_sub(5), tv_nsec: 7 };
        utimensat(
            CWD,
            &path,
            &Timestamps { last_access: accessed, last_modification: modified },
            AtFlags::empty(),
        )?;
    }
    Ok(())
}
