//! What the volume lies on: a zram device of our own, or an image file through a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail};

/// A block device that everybody reads in turn.
#[derive(Debug)]
pub(crate) enum Medium {
    /// `/dev/zramN`, made for us and removed after us.
    Zram { number: u32, device: PathBuf },
    /// An image file and the loop device over it.
    Loop { device: PathBuf },
}

/// Runs a program and fails with what it said.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Medium {
    /// A new zram device of `size` bytes. Pages that do not compress are kept as they are and cost one copy to read.
    pub(crate) fn zram(size: u64) -> Result<Self> {
        let number = fs::read_to_string("/sys/class/zram-control/hot_add")
            .context("make a zram device (modprobe zram, or give --image FILE)")?;
        let number: u32 = number.trim().parse()?;
        let medium = Self::Zram { number, device: PathBuf::from(format!("/dev/zram{number}")) };
        fs::write(format!("/sys/block/zram{number}/disksize"), size.to_string())?;
        Ok(medium)
    }

    /// A loop device over a sparse image of `size` bytes.
    pub(crate) fn image(path: &Path, size: u64) -> Result<Self> {
        fs::File::create(path)?.set_len(size)?;
        let path = path.to_str().context("the path of the image is not UTF-8")?;
        let device = command("losetup", &["--find", "--show", "--direct-io=on", path])?;
        Ok(Self::Loop { device: PathBuf::from(device) })
    }

    pub(crate) fn device(&self) -> &Path {
        match self {
            Self::Zram { device, .. } | Self::Loop { device } => device,
        }
    }

    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Zram { .. } => "zram",
            Self::Loop { .. } => "loop device",
        }
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        match self {
            Self::Loop { device } => {
                let _ = Command::new("losetup").arg("-d").arg(device).status();
            }
            Self::Zram { number, .. } => {
                // The last opener may still be closing it.
                for _ in 0..50 {
                    let _ = fs::write(format!("/sys/block/zram{number}/reset"), "1");
                    if fs::write("/sys/class/zram-control/hot_remove", number.to_string()).is_ok() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
                eprintln!("zram{number} is still in use and was not removed");
            }
        }
    }
}
