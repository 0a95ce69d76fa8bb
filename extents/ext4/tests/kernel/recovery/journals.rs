//! Journals of every kind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use extents_core::{ExtentFlags, FileSystem};

use super::cut::{
    Stop, agrees, agrees_with_kernel, change_journal, cut_off, journal, shut_down, sync, with_journal,
};
use crate::image::{Image, options};
use crate::populate;

/// Every kind of change, in several transactions that touch the same blocks.
fn work(root: &Path) {
    let at = |name: &str| root.join(name);
    for round in 0..3_u8 {
        for file in 0..30_usize {
            fs::write(at(&format!("file {file}")), vec![round + b'a'; 900 * (file + 1)]).unwrap();
        }
        fs::create_dir(at(&format!("directory {round}"))).unwrap();
        for file in 0..60 {
            fs::write(at(&format!("directory {round}/entry {file}")), format!("{file}")).unwrap();
        }
        sync(root);
        for file in (0..30).step_by(4) {
            fs::remove_file(at(&format!("file {file}"))).unwrap();
        }
        fs::rename(at("file 1"), at("file 2")).unwrap();
        fs::File::options().write(true).open(at("file 5")).unwrap().set_len(10).unwrap();
        fs::hard_link(at("file 3"), at(&format!("link {round}"))).unwrap();
        symlink(format!("target {round}").repeat(3), at(&format!("symlink {round}"))).unwrap();
        symlink(format!("target {round}").repeat(30), at(&format!("long symlink {round}"))).unwrap();
        sync(root);
    }
    fs::remove_dir_all(at("directory 1")).unwrap();
    // Perhaps not in the log when the file system stops; the kernel decides.
    fs::write(at("last"), b"perhaps").unwrap();
}

fn compare(mkfs: &str, options: &str) {
    for stop in [Stop::Dead, Stop::FlushLog] {
        let Some(image) = cut_off(mkfs, options, stop, work) else { return };
        if agrees(&image).is_none() {
            return;
        }
    }
}

#[test]
fn recovery_of_plain_journals_agrees_with_the_kernel_and_e2fsck() {
    compare("-b 1024 -O ^metadata_csum,^64bit", "rw");
    compare("-b 4096 -O ^metadata_csum,64bit", "rw");
    compare("-b 2048 -t ext3", "rw");
}

#[test]
fn recovery_of_checksummed_journals_agrees_with_the_kernel_and_e2fsck() {
    compare("-b 1024 -O metadata_csum,64bit", "rw");
    compare("-b 4096 -O metadata_csum,^64bit", "rw");
    compare("-b 4096 -O ^metadata_csum", "journal_checksum");
    compare("-b 4096 -O metadata_csum", "journal_async_commit,data=writeback");
}

#[test]
fn recovery_of_data_in_the_journal_agrees_with_the_kernel_and_e2fsck() {
    for mkfs in ["-b 1024 -O ^metadata_csum", "-b 4096", "-b 4096 -O ^extents,^64bit"] {
        let escape = |root: &Path| {
            work(root);
            let mut contents = 0xc03b_3998_u32.to_be_bytes().to_vec();
            contents.resize(1024, b'x');
            fs::write(root.join("escaped"), contents.repeat(40)).unwrap();
            sync(root);
        };
        let Some(image) = cut_off(mkfs, "data=journal", Stop::Dead, escape) else { return };
        let volume = image.open();
        let escaped = volume.lookup(volume.root(), b"escaped").unwrap().unwrap();
        let map = volume.extents(escaped).unwrap();
        assert!(map.iter().any(|extent| extent.flags.contains(ExtentFlags::ENCODED)), "{map:?}");
        if agrees(&image).is_none() {
            return;
        }
    }
}

#[test]
fn recovery_of_everything_a_volume_can_hold_agrees_with_the_kernel() {
    for mkfs in ["-O metadata_csum", "-O inline_data", "-O orphan_file,ea_inode"] {
        let fill = |root: &Path| {
            populate::everything(root);
            sync(root);
        };
        let Some(image) = cut_off(mkfs, "rw", Stop::Dead, fill) else { return };
        if agrees_with_kernel(&image, &options(), "").is_none() {
            return;
        }
    }
}

#[test]
fn recovery_of_freed_directory_blocks_that_became_data_agrees_with_the_kernel() {
    for mkfs in ["-b 1024 -J size=8", "-b 1024 -J size=8 -O ^metadata_csum,^64bit"] {
        let revoke = |root: &Path| {
            for directory in 0..40 {
                fs::create_dir(root.join(format!("{directory}"))).unwrap();
                for file in 0..30 {
                    fs::write(root.join(format!("{directory}/a name that fills the block {file}")), b"")
                        .unwrap();
                }
            }
            sync(root);
            for directory in 0..40 {
                fs::remove_dir_all(root.join(format!("{directory}"))).unwrap();
            }
            sync(root);
            for file in 0..20 {
                fs::write(root.join(format!("data {file}")), vec![b'D'; 200_000]).unwrap();
            }
            sync(root);
        };
        let Some(image) = cut_off(mkfs, "rw", Stop::Dead, revoke) else { return };
        if agrees(&image).is_none() {
            return;
        }
    }
}

#[test]
fn recovery_of_a_log_that_wrapped_agrees_with_the_kernel() {
    let wrap = |root: &Path| {
        work(root);
        for round in 0..60_u8 {
            fs::write(root.join("round"), vec![round; 150_000]).unwrap();
            sync(root);
        }
    };
    for mkfs in ["-b 1024 -J size=2", "-b 1024 -J size=2 -O fast_commit"] {
        let Some(image) = cut_off(mkfs, "data=journal", Stop::Dead, wrap) else { return };
        if agrees(&image).is_none() {
            return;
        }
    }
}

#[test]
fn recovery_of_a_torn_tail_agrees_with_the_kernel() {
    for (mkfs, options) in [("-b 4096", "rw"), ("-b 4096 -O ^metadata_csum", "rw")] {
        // A descriptor that did not arrive, and a commit that did not.
        for block_type in [1, 2] {
            let Some(image) = cut_off(mkfs, options, Stop::Dead, work) else { return };
            let start = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, block_type];
            let journal = journal(&image);
            let own = journal.chunks(4096).enumerate().filter(|(_, block)| block.starts_with(&start));
            let (place, _) = own.max_by_key(|(_, block)| block[8..12].to_vec()).unwrap();
            change_journal(&image, 4096, place, |block| block.fill(0));
            if agrees(&image).is_none() {
                return;
            }
        }
    }
}

#[test]
fn recovery_of_a_journal_on_its_own_device_agrees_with_the_kernel() {
    for block_size in ["1024", "4096"] {
        let Some(journal) = Image::make(16, &format!("-O journal_dev -b {block_size}")) else { return };
        let Some(device) = Loop::attach(&journal.path()) else { return };
        let mkfs = format!("-b {block_size} -J device={}", device.0);
        let Some(image) = Image::make(32, &mkfs) else { return };
        let more = format!(",journal_path={}", device.0);
        let Some(mount) = image.mount(more.trim_start_matches(',')) else { return };
        work(mount.path());
        shut_down(mount.path(), Stop::Dead);
        drop(mount);
        let error = image.try_open(&options()).unwrap_err().to_string();
        assert!(error.contains("another device"), "{error}");
        // The kernel recovers from the journal itself, so ours reads a copy of it.
        let copy = journal.path().with_extension("copy");
        fs::copy(journal.path(), &copy).unwrap();
        let compared = agrees_with_kernel(&image, &with_journal(&copy), &more);
        assert!(compared.is_none_or(|compared| compared.names > 10));
    }
}

#[test]
fn open_without_recovery_shows_the_volume_as_it_lies_there() {
    let Some(image) = cut_off("-b 4096", "rw", Stop::Dead, work) else { return };
    let volume = image.try_open(&extents_ext4::OpenOptions { norecovery: true, ..options() }).unwrap();
    assert!(volume.overlay().is_none());
    assert!(volume.info().recovery.contains("was not done"), "{}", volume.info().recovery);
}

/// A loop device, detached when dropped.
struct Loop(String);

impl Loop {
    fn attach(file: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        if !output.status.success() {
            println!("skipped: no loop device: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self(String::from_utf8(output.stdout).unwrap().trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
