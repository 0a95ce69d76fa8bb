//! Maps of mounted volumes are compared with what our own parser reads off the volume beside the kernel's driver.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mounts::{FreshVolume, HomifsMount, homifs};
use oracle::command::run;
use oracle::{Format, machine, skip_if};

fn counter(mount: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(mount.join(".homi/stats"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("homifs_{name} ")));
    Ok(line.with_context(|| format!("no counter {name}"))?.parse()?)
}

fn info(file: &Path) -> Result<serde_json::Value> {
    let output = Command::new(homifs()?).args(["info", "-o", "json"]).arg(file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The block device below a mount that `homifs mount` said something about.
fn device_below(mount: &mut HomifsMount) -> Result<String> {
    let said = mount.daemon().said();
    let (_, rest) = said.split_once("written by the kernel on ").context("no device is told")?;
    Ok(rest.split(',').next().unwrap_or_default().to_owned())
}

#[test]
fn maps_that_the_volume_confirms_are_counted_and_the_engine_reads_by_them() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("reads=engine")?;
        for number in 0..20 {
            fs::write(mount.join(format!("file{number}")), vec![number; 5000 * usize::from(number)])?;
        }
        volume.unmount_and_check(mount)?;
        // All metadata is in its place now, also that of XFS.
        let mount = volume.mount("reads=engine")?;
        for number in 0..20 {
            let bytes = fs::read(mount.join(format!("file{number}")))?;
            ensure!(bytes == vec![number; 5000 * usize::from(number)], "{format:?}: file {number}");
        }
        let until = Instant::now() + Duration::from_secs(20);
        while counter(mount.path(), "maps_confirmed")? < 19 {
            ensure!(
                Instant::now() < until,
                "{format:?}: {} confirmed",
                counter(mount.path(), "maps_confirmed")?
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        ensure!(counter(mount.path(), "maps_disputed")? == 0, "{format:?}");
        let told = info(&mount.join("file7"))?;
        ensure!(told["served_by"] == "engine" && told["size_bytes"] == 35_000, "{format:?}: {told}");
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

/// Somebody changes the volume behind the kernel's back, as a bug in either parser would look.
#[test]
fn map_that_the_volume_contradicts_is_told_and_the_file_is_read_through_the_kernel() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    // Without checksums, so that what debugfs writes is believed.
    run("mkfs.ext4", ["-q", "-F", "-O", "^metadata_csum", volume.image.to_str().context("a path")?])?;
    let mut mount = volume.mount("reads=engine,noatime")?;
    let path = mount.join("file");
    fs::write(&path, vec![7; 100 << 10])?;
    ensure!(fs::read(&path)? == vec![7; 100 << 10]);
    ensure!(info(&path)?["served_by"] == "engine");
    ensure!(counter(mount.path(), "maps_disputed")? == 0);

    let device = device_below(&mut mount)?;
    run("debugfs", ["-w", "-R", "punch /file 3 9", &device])?;
    // The map is asked for anew.
    drop(OpenOptions::new().write(true).open(&path)?);
    ensure!(fs::read(&path)? == vec![7; 100 << 10], "the kernel's answer is the one that counts");
    ensure!(counter(mount.path(), "maps_disputed")? >= 1, "nobody noticed");
    let told = info(&path)?;
    ensure!(told["served_by"] == "kernel", "{told}");
    ensure!(told["why"].as_str().is_some_and(|why| why.contains("disputes")), "{told}");
    let said = mount.daemon().said();
    ensure!(said.contains("disagree on where a file lies"), "{said}");
    // Neither can be trusted with this volume any more.
    volume.unmount(mount)
}

#[test]
fn info_of_a_file_says_who_reads_it_and_why() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = volume.mount("reads=auto,clients=1")?;
    let path = mount.join("file");
    fs::write(&path, vec![7; 100 << 10])?;
    let why = |path: &Path| -> Result<(String, String)> {
        let told = info(path)?;
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        Ok((text("served_by"), text("why")))
    };
    let (by, reason) = why(&path)?;
    ensure!(by == "kernel" && reason.contains("page cache"), "{by}: {reason}");
    let writer = OpenOptions::new().read(true).write(true).open(&path)?;
    let (by, reason) = why(&path)?;
    ensure!(by == "kernel" && reason.contains("open for writing"), "{by}: {reason}");
    writer.sync_all()?;
    drop(writer);
    let appender = OpenOptions::new().append(true).open(&path)?;
    let (by, reason) = why(&path)?;
    ensure!(by == "kernel" && reason.contains("appended"), "{by}: {reason}");
    drop(appender);
    let cached = File::open(&path)?;
    rustix::fs::fadvise(&cached, 0, None, rustix::fs::Advice::DontNeed)?;
    fs::write("/proc/sys/vm/drop_caches", "1")?;
    let (by, reason) = why(&path)?;
    ensure!(by == "engine" && reason.contains("clean"), "{by}: {reason}");
    drop(cached);
    volume.unmount(mount)?;

    let mount = HomifsMount::of_spec(&volume.image, "ro")?;
    let (by, reason) = why(&mount.join("file"))?;
    ensure!(by == "engine" && reason.contains("read-only"), "{by}: {reason}");
    Ok(())
}
