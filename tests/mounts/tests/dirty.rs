//! Volumes that were cut off while they were written to.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use mounts::{HomifsMount, homifs, outcome};
use oracle::command::run;
use oracle::{Aspects, Difference, Format, KernelMount, differences, machine, mounted_tree, skip_if};

fn make(folder: &Path, format: Format, mkfs: &[&str]) -> Result<PathBuf> {
    let image = folder.join("dirty.img");
    File::create(&image)?.set_len(64 << 20)?;
    let name = image.to_string_lossy().into_owned();
    match format {
        Format::Ext4 => run("mkfs.ext4", ["-q", "-F"].iter().chain(mkfs).copied().chain([&*name]))?,
        Format::Xfs => {
            run("mkfs.xfs", ["-q", "-f", "--unsupported"].iter().chain(mkfs).copied().chain([&*name]))?
        }
    };
    Ok(image)
}

/// Works on a volume for a while, then cuts it off as a loss of power would.
fn cut_off(image: &Path, format: Format, options: &str, work_for: Duration, flush_log: bool) -> Result<()> {
    let mount = KernelMount::with_options(image, format, options)?;
    let root = mount.path().to_owned();
    std::thread::scope(|scope| -> Result<()> {
        let workers = [0, 1].map(|worker| {
            let root = &root;
            // It ends with the error that the cut gives it.
            scope.spawn(move || work(&root.join(format!("worker-{worker}"))).is_err())
        });
        std::thread::sleep(work_for);
        let shutdown = if flush_log { "shutdown -f" } else { "shutdown" };
        run("xfs_io", ["-x", "-c", shutdown, &root.to_string_lossy()])?;
        for worker in workers {
            ensure!(worker.join().expect("no panic"), "a worker ended before the volume was cut off");
        }
        Ok(())
    })?;
    // Unmounting would still write back what the journal holds, so the state at the cut is kept before.
    let cut = image.with_extension("cut");
    fs::copy(image, &cut)?;
    mount.unmount()?;
    Ok(fs::rename(cut, image)?)
}

fn work(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    for number in 0_u32.. {
        let path = folder.join(format!("file-{}", number % 200));
        let mut file = File::options().create(true).append(true).open(&path)?;
        file.write_all(&vec![u8::try_from(number % 251)?; 500 + usize::try_from(number * 37 % 9000)?])?;
        match number % 7 {
            0 => file.sync_all()?,
            1 => file.set_len(u64::from(number % 5000))?,
            2 => fs::rename(&path, folder.join(format!("renamed-{}", number % 50)))?,
            3 => rustix::fs::setxattr(
                &path,
                "user.number",
                &number.to_le_bytes(),
                rustix::fs::XattrFlags::empty(),
            )?,
            4 if number > 300 => fs::remove_file(&path)?,
            5 => {
                let directory = folder.join(format!("directory-{}", number % 30));
                if fs::create_dir(&directory).is_err() {
                    fs::remove_dir(&directory)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A file whose shortening was cut off is shortened to its end by the kernel's recovery (`ext4_orphan_cleanup`), and then
/// changed at that moment. Who writes nothing shows when it was changed before.
fn is_of_the_recovery(difference: &Difference, began: Duration) -> bool {
    // The kernel's clock for files ticks some milliseconds behind.
    let soon = began.saturating_sub(Duration::from_millis(20)).as_nanos();
    matches!(&*difference.what, "mtime" | "ctime")
        && difference.expected.parse::<u128>().is_ok_and(|time| time >= soon)
}

/// What the kernel shows after its own recovery must be what homifs shows without writing anything.
fn agrees_with_recovery(image: &Path) -> Result<()> {
    let before = fs::read(image)?;
    let recovered = image.with_extension("recovered");
    fs::copy(image, &recovered)?;
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    KernelMount::with_options(&recovered, Format::Ext4, "rw,noatime")?.unmount()?;
    let kernel = KernelMount::read_only(&recovered, Format::Ext4)?;
    let homifs = HomifsMount::new(image, "")?;
    let mut report =
        differences(&mounted_tree(kernel.path())?, &mounted_tree(homifs.path())?, Aspects::MOUNT);
    report.0.retain(|difference| !is_of_the_recovery(difference, began));
    ensure!(report.0.is_empty(), "{report}");
    drop(homifs);
    ensure!(fs::read(image)? == before, "the image was written to");
    Ok(())
}

fn rounds(mkfs: &[&str], options: &str) -> Result<()> {
    let mut dirty = 0;
    for (round, flush) in [(0, true), (1, false), (2, true), (3, false)] {
        let folder = tempfile::tempdir()?;
        let image = make(folder.path(), Format::Ext4, mkfs)?;
        cut_off(&image, Format::Ext4, options, Duration::from_millis(60 + round * 130), flush)?;
        let header = run("dumpe2fs", ["-h", &image.to_string_lossy()])?;
        dirty += usize::from(header.contains("needs_recovery"));
        agrees_with_recovery(&image)?;
    }
    assert!(dirty >= 2, "only {dirty} of 4 volumes needed a recovery");
    Ok(())
}

fn cannot_cut() -> Option<String> {
    machine::cannot_mount_fuse()
        .or_else(|| (!machine::has_tool("xfs_io")).then(|| "xfs_io is not installed".to_owned()))
}

#[test]
fn ext4_cut_off_agrees_with_the_kernels_recovery() -> Result<()> {
    skip_if!(cannot_cut());
    rounds(&["-b", "4096"], "rw")
}

#[test]
fn ext4_with_journal_checksums_cut_off_agrees_with_the_kernels_recovery() -> Result<()> {
    skip_if!(cannot_cut());
    rounds(&["-b", "1024", "-O", "^metadata_csum"], "rw,data=writeback,journal_checksum,journal_async_commit")
}

#[test]
fn ext4_with_data_in_the_journal_cut_off_agrees_with_the_kernels_recovery() -> Result<()> {
    skip_if!(cannot_cut());
    rounds(&["-b", "4096"], "rw,data=journal")
}

#[test]
fn ext4_with_fast_commits_cut_off_agrees_with_the_kernels_recovery() -> Result<()> {
    skip_if!(cannot_cut());
    rounds(&["-b", "4096", "-O", "fast_commit"], "rw")
}

#[test]
fn ext3_cut_off_agrees_with_the_kernels_recovery() -> Result<()> {
    skip_if!(cannot_cut());
    rounds(&["-t", "ext3", "-b", "1024"], "rw")
}

#[test]
fn xfs_with_a_dirty_log_is_refused_with_advice_and_mounted_with_norecovery() -> Result<()> {
    skip_if!(cannot_cut());
    let folder = tempfile::tempdir()?;
    let image = make(folder.path(), Format::Xfs, &[])?;
    cut_off(&image, Format::Xfs, "rw", Duration::from_millis(150), true)?;
    let mount = HomifsMount::prepare()?;
    let started = Instant::now();
    let refused = outcome(homifs()?, [Path::new("mount"), &image, mount.path()])?;
    refused.refused_with(32, &["log", "norecovery"])?;
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(mount.entry(), None);

    let as_it_is = HomifsMount::new(&image, "norecovery")?;
    let kernel = KernelMount::with_options(&image, Format::Xfs, "ro,noatime,norecovery,nouuid")?;
    let [expected, found] = [kernel.path(), as_it_is.path()].map(mounted_tree);
    // The kernel, too, may stumble over what is half written; then there is nothing to compare with.
    match expected {
        Ok(expected) => {
            let report = differences(&expected, &found?, Aspects::MOUNT);
            ensure!(report.0.is_empty(), "{report}");
        }
        Err(reason) => println!("the kernel cannot show it either: {reason:#}"),
    }
    Ok(())
}

#[test]
fn ext4_norecovery_shows_what_the_kernel_shows_with_noload() -> Result<()> {
    skip_if!(cannot_cut());
    let folder = tempfile::tempdir()?;
    let image = make(folder.path(), Format::Ext4, &["-b", "4096"])?;
    // A first part that is on the media, and a second one that is in the journal only.
    let mount = KernelMount::with_options(&image, Format::Ext4, "rw")?;
    fs::write(mount.path().join("settled"), "settled")?;
    mount.unmount()?;
    let mount = KernelMount::with_options(&image, Format::Ext4, "rw")?;
    let mut file = File::create(mount.path().join("in the journal"))?;
    file.write_all(b"new")?;
    file.sync_all()?;
    drop(file);
    run("xfs_io", ["-x", "-c", "shutdown -f", &mount.path().to_string_lossy()])?;
    let cut = folder.path().join("cut.img");
    fs::copy(&image, &cut)?;
    mount.unmount()?;
    let image = cut;

    let kernel = KernelMount::with_options(&image, Format::Ext4, "ro,noload,noatime")?;
    let as_it_is = HomifsMount::new(&image, "norecovery")?;
    let report = differences(&mounted_tree(kernel.path())?, &mounted_tree(as_it_is.path())?, Aspects::MOUNT);
    ensure!(report.0.is_empty(), "{report}");
    assert!(!as_it_is.join("in the journal").exists());
    drop(as_it_is);
    drop(kernel);
    let recovered = HomifsMount::new(&image, "")?;
    assert_eq!(fs::read(recovered.join("in the journal"))?, b"new");
    Ok(())
}
