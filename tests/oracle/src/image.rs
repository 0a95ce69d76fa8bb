//! Makes the volumes of the table, once for each recipe.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, time};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::command::{finish, run};
use crate::kernel_mount::KernelMount;
use crate::recipe;
use crate::volume::{Format, Volume};

/// What lies on the device before the volume is made, so that a reader who takes stale bytes for data is seen.
pub const STALE: u8 = 0xA5;

/// The UUID of all ext4 volumes.
pub const UUID: &str = "5d2e2a3c-5f0c-4b43-8d39-6b8f1c0e7a11";

/// Where images are kept: `ORACLE_IMAGES`, or else a folder of the user's temporary folder.
#[must_use]
pub fn folder() -> PathBuf {
    env::var_os("ORACLE_IMAGES").map_or_else(|| env::temp_dir().join("homifs-oracle-images"), PathBuf::from)
}

/// The image of a volume; made now if it was not made before by the same recipe. Not to be written to.
///
/// # Errors
/// Where a tool or the kernel refuses a step.
pub fn build(volume: &Volume) -> Result<PathBuf> {
    let folder = folder();
    fs::create_dir_all(&folder)?;
    let image = folder.join(format!("{}-{}.img", volume.name, key(volume)));
    // Tests are processes of their own; whoever comes second waits for the first.
    let lock = File::create(folder.join(format!("{}.lock", volume.name)))?;
    lock.lock()?;
    if image.exists() {
        return Ok(image);
    }
    remove_older(&folder, volume.name)?;
    let started = time::Instant::now();
    let draft = folder.join(format!("{}.draft", volume.name));
    make(volume, &draft).with_context(|| format!("cannot make the volume {}", volume.name))?;
    fs::rename(&draft, &image)?;
    println!("made {} in {:.1?}", image.display(), started.elapsed());
    Ok(image)
}

/// Names everything that the image depends on: a change of a recipe makes a new image.
fn key(volume: &Volume) -> String {
    let mut hash = Sha256::new();
    // Of the recipe only its names: the addresses of its functions are others in each process.
    let sections: Vec<_> = volume.recipe.iter().map(|(name, _)| name).collect();
    hash.update(format!("{:?}{sections:?}", Volume { recipe: &[], ..*volume }));
    hash.update(include_str!("image.rs"));
    recipe::SOURCES.iter().for_each(|source| hash.update(source));
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn remove_older(folder: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        // What follows the name is the key, of twelve digits, and no longer name.
        if rest.is_some_and(|rest| rest.len() == 16 && rest.ends_with(".img")) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn make(volume: &Volume, image: &Path) -> Result<()> {
    let size = volume.mib << 20;
    let mut file = File::create(image)?;
    if volume.stale {
        let piece = vec![STALE; 1 << 20];
        (0..volume.mib).try_for_each(|_| file.write_all(&piece))?;
    } else {
        file.set_len(size)?;
    }
    drop(file);
    format(volume, image)?;
    for command in volume.before {
        adjust(command, image)?;
    }
    let mount = KernelMount::with_options(image, volume.format, volume.options)?;
    let place = recipe::Place::new(mount.path())?;
    for (name, section) in volume.recipe {
        section(&place).with_context(|| format!("section {name}"))?;
    }
    mount.unmount()?;
    volume.after.iter().try_for_each(|command| adjust(command, image))
}

/// Makes the empty volume of this line of the table.
///
/// # Errors
/// What the tool says.
pub fn format(volume: &Volume, image: &Path) -> Result<()> {
    let fixed: &[&str] = match volume.format {
        // Small devices would get blocks of 1 KiB; what the line of the table says comes later and wins.
        Format::Ext4 => &["-q", "-F", "-U", UUID, "-E", "nodiscard", "-b", "4096", "-i", "4096"],
        Format::Xfs => &["-q", "-f", "-K", "--unsupported"],
    };
    let arguments = fixed.iter().chain(volume.mkfs).map(OsStr::new).chain([image.as_os_str()]);
    run(volume.format.mkfs(), arguments).map(drop)
}

/// Runs a command of the table; `IMAGE` stands for the image.
fn adjust(command: &[&str], image: &Path) -> Result<()> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let arguments =
        arguments.iter().map(|&word| if word == "IMAGE" { image.as_os_str() } else { OsStr::new(word) });
    finish(Command::new(program).args(arguments)).map(drop)
}
