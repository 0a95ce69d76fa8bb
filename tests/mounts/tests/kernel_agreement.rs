//! Every volume of the oracle's table, mounted by the kernel and, in each way that it has to a device, by homifs: each
//! name, stat, link, attribute, ACL and byte must agree, and `homi.extents` with FIEMAP.

use std::path::Path;

use anyhow::{Result, ensure};
use homi_abi::extents as abi;
use libtest_mimic::{Arguments, Failed, Trial};
use mounts::{Engine, HomifsMount};
use oracle::{
    Aspects, Contents, KernelMount, Piece, Tree, VOLUMES, Volume, differences, image, machine, mounted_tree,
};
use rustix::io::Errno;

fn main() {
    let trials = VOLUMES.iter().flat_map(|volume| {
        Engine::ALL.map(|engine| {
            let name = match engine {
                Engine::Kernel => format!("mount_agrees_with_kernel_{}", volume.name),
                engine => format!("mount_over_{engine}_agrees_with_kernel_{}", volume.name),
            };
            Trial::test(name, move || {
                compare(volume, engine).map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn compare(volume: &Volume, engine: Engine) -> Result<()> {
    if let Some(reason) = machine::cannot_mount_fuse() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let image = image::build(volume)?;
    let kernel = KernelMount::read_only(&image, volume.format)?;
    let options = if engine == Engine::Kernel { "engine=io_uring" } else { "" };
    let homifs = HomifsMount::by(engine, &image, options)?;
    // First: XFS without newer trees finds blocks that nobody can have with each group that it reads.
    same_space(kernel.path(), homifs.path())?;
    let (expected, mut found) = (mounted_tree(kernel.path())?, mounted_tree(homifs.path())?);
    take_maps_from_attribute(&mut found, homifs.path())?;
    let report = differences(&expected, &found, Aspects { maps: true, ..Aspects::MOUNT });
    ensure!(report.0.is_empty(), "{report}");
    Ok(())
}

/// Puts what `homi.extents` tells in place of what FIEMAP tells, which FUSE does not have.
fn take_maps_from_attribute(tree: &mut Tree, root: &Path) -> Result<()> {
    for (name, entry) in &tree.entries {
        let Some(Contents { digests, map, .. }) =
            tree.inodes.get_mut(&entry.stat.ino).and_then(|kept| kept.contents.as_mut())
        else {
            continue;
        };
        // What cannot be opened has the same reason for every way of asking.
        *map = Some(match digests {
            Err(reason) => Err(reason.clone()),
            Ok(_) => match exported_map(&[root.as_os_str().as_encoded_bytes(), b"/", &name.0].concat()) {
                Ok(map) => Ok(map),
                // Deeper than a path can tell; what lies there is empty.
                Err(error) if error.downcast_ref() == Some(&Errno::NAMETOOLONG) => Ok(Vec::new()),
                Err(error) => return Err(error.context(format!("map of {name:?}"))),
            },
        });
    }
    Ok(())
}

/// All parts of the map that the attribute gives.
fn exported_map(path: &[u8]) -> Result<Vec<Piece>> {
    let mut map = Vec::new();
    let mut value = vec![0; 64 << 10];
    loop {
        let length = rustix::fs::getxattr(path, format!("homi.extents@{}", map.len()), &mut value[..])?;
        let (header, entries) = abi::decode(&value[..length])?;
        ensure!(
            usize::try_from(header.first.get())? == map.len(),
            "asked for place {}: {header:?}",
            map.len()
        );
        let before = map.len();
        map.extend(entries.map(|entry| Piece {
            logical: entry.logical.get(),
            physical: entry.physical.get(),
            length: entry.length.get(),
            unwritten: entry.flags.get() & abi::UNWRITTEN != 0,
            shared: entry.flags.get() & abi::SHARED != 0,
            inline: entry.flags.get() & abi::INLINE != 0,
        }));
        if header.flags.get() & abi::MORE == 0 {
            ensure!(u64::try_from(map.len())? == header.total.get(), "{} entries: {header:?}", map.len());
            return Ok(map);
        }
        ensure!(map.len() > before, "more is to come, but nothing came: {header:?}");
    }
}

fn same_space(kernel: &Path, homifs: &Path) -> Result<()> {
    let [expected, found] = [kernel, homifs].map(|root| {
        let all = rustix::fs::statvfs(root)?;
        Ok::<_, Errno>([
            all.f_bsize,
            all.f_frsize,
            all.f_blocks,
            all.f_bfree,
            all.f_bavail,
            all.f_files,
            all.f_ffree,
            all.f_namemax,
        ])
    });
    let (expected, found) = (expected?, found?);
    ensure!(expected == found, "statfs gives {expected:?} by the kernel, {found:?} by homifs");
    Ok(())
}
