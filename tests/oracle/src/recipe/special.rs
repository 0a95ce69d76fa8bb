//! Devices, FIFOs, sockets, and unusual owners and modes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use super::{Place, file};

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("special")?;
    // Numbers of both encodings: 8 bits each, and 12 and 20.
    for (major, minor) in
        [(0, 0), (1, 3), (8, 1), (255, 255), (256, 0), (8, 256), (259, 1_048_575), (4095, 65_536)]
    {
        for (kind, letter) in [(FileType::CharacterDevice, 'c'), (FileType::BlockDevice, 'b')] {
            let path = folder.join(format!("{letter}-{major}-{minor}"));
            match mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor)) {
                // XFS keeps 14 and 18 bits.
                Err(Errno::INVAL) => {}
                other => other?,
            }
        }
    }
    mknodat(CWD, folder.join("fifo"), FileType::Fifo, Mode::RUSR, 0)?;
    mknodat(CWD, folder.join("socket"), FileType::Socket, Mode::RUSR, 0)?;
    for bits in [0o0, 0o1, 0o644, 0o1777, 0o2755, 0o4711, 0o7777] {
        let path = folder.join(format!("mode-{bits:04o}"));
        file(&path, 3)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(bits))?;
        let path = folder.join(format!("directory-{bits:04o}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(bits))?;
    }
    for (number, id) in [1, 65_534, 65_535, 65_536, 0x7FFF_FFFF, 0xFFFF_FFFE].into_iter().enumerate() {
        let path = folder.join(format!("owner-{number}"));
        file(&path, 3)?;
        chown(&path, Some(id), Some(id - 1))?;
    }
    Ok(())
}
