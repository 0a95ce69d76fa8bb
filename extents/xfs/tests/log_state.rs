//! The state of the log after clean unmounts, shutdowns and cut-off writes, against xfs_logprint and the kernel.

mod support;

use std::fs::{self, OpenOptions as FileOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use extents_core::Error;
use extents_xfs::{LogState, OpenOptions, log_state};
use support::{Image, ImageFile, can_make, can_mount, run};

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What `xfs_logprint -t` says: its last line names tail, head and state.
fn logprint(path: &Path) -> LogState {
    let output = Command::new("xfs_logprint").args(["-t", path.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("log tail:")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |name: &str| -> u64 {
        let place = words.iter().position(|&word| word == name).unwrap();
        words[place + 1].parse().unwrap()
    };
    if line.contains("<CLEAN>") {
        LogState::Clean
    } else {
        LogState::Dirty { head: number("head:"), tail: number("tail:") }
    }
}

fn ours(path: &Path) -> LogState {
    log_state(ImageFile::open(path)).unwrap()
}

/// A volume is refused exactly where its log is dirty, and opened without recovery in any case.
fn check(image: &Image) -> LogState {
    let state = ours(image.path());
    assert_eq!(state, logprint(image.path()));
    let opened = image.try_open(&OpenOptions::default());
    match state {
        LogState::Clean => assert!(opened.is_ok()),
        LogState::Dirty { .. } => assert!(matches!(opened, Err(Error::NeedsRecovery(_)))),
    }
    image.try_open(&OpenOptions { norecovery: true, ..OpenOptions::default() }).unwrap();
    state
}

/// Makes and deletes files: `amount` of them, some synced on the way.
fn act(folder: &Path, numbers: &mut Numbers, amount: u64) {
    for round in 0..amount {
        let path = folder.join(format!("file-{}", numbers.below(300)));
        match numbers.below(5) {
            0 => drop(fs::remove_file(&path)),
            1 => drop(fs::create_dir(folder.join(format!("directory-{}", numbers.below(100))))),
            2 => drop(fs::hard_link(&path, folder.join(format!("link-{}", numbers.below(1000))))),
            3 => set_attribute(&path, numbers.below(3500)),
            _ => fs::write(&path, vec![b'w'; numbers.below(20_000) as usize]).unwrap(),
        }
        if numbers.below(40) == 0 || round + 1 == amount {
            run("sync", &["-f", folder.to_str().unwrap()]);
        }
    }
}

/// Attributes are metadata, and so fill the log. Where the file is not there, nothing happens.
fn set_attribute(path: &Path, length: u64) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let value = vec![b'a'; length as usize];
    // SAFETY: both names end with NUL and the value is as long as told.
    unsafe {
        libc::lsetxattr(path.as_ptr(), c"user.attribute".as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
}

fn shut_down(folder: &Path, flush: bool) {
    let command = if flush { "shutdown -f" } else { "shutdown" };
    run("xfs_io", &["-x", "-c", command, folder.to_str().unwrap()]);
}

/// Clean and unclean ends in turn, with more and less done before each.
fn sequence(arguments: &[&str], rounds: u64, most: u64) {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", arguments);
    assert_eq!(check(&image), LogState::Clean, "as mkfs leaves it");
    let mut numbers = Numbers(rounds * 1000 + most);
    let (mut clean, mut dirty) = (0, 0);
    for _ in 0..rounds {
        let mount = image.mount("rw");
        let amount = numbers.below(most);
        act(mount.path(), &mut numbers, amount);
        let end = numbers.below(4);
        if end < 2 {
            // What is done now is not flushed before the end.
            fs::write(mount.path().join("last"), b"last").unwrap();
            shut_down(mount.path(), end == 0);
        }
        drop(mount);
        match check(&image) {
            LogState::Clean => clean += 1,
            LogState::Dirty { .. } => dirty += 1,
        }
        if end >= 2 {
            assert_eq!(ours(image.path()), LogState::Clean, "after umount");
        }
        if end == 0 {
            assert_ne!(ours(image.path()), LogState::Clean, "after a shutdown that flushes the log");
        }
    }
    println!("{arguments:?}: clean {clean} times, dirty {dirty} times");
    assert!(clean > 0 && dirty > 0);
}

macro_rules! sequences {
    ($($name:ident: $arguments:expr, $rounds:literal, $most:literal;)*) => {$(
        #[test]
        fn $name() {
            sequence(&$arguments, $rounds, $most);
        }
    )*};
}

sequences! {
    state_default_log_equals_logprint: [], 16, 400;
    state_smallest_log_that_wraps_equals_logprint: ["--unsupported", "-l", "size=10m"], 24, 2500;
    state_log_stripe_unit_equals_logprint: ["-l", "su=32k"], 12, 600;
    state_large_log_stripe_unit_equals_logprint: ["-l", "su=256k"], 12, 600;
    state_4k_log_sectors_equals_logprint: ["-s", "size=4k", "-l", "sectsize=4k"], 12, 600;
    state_1k_blocks_equals_logprint: ["-b", "size=1k"], 12, 600;
}

/// A log of 10 MiB that went round: ends at every stage of a round.
#[test]
fn state_copies_of_a_busy_volume_equal_logprint_and_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &["--unsupported", "-l", "size=10m"]);
    let copy = image.folder().join("copy.img");
    let copy_name = copy.to_str().unwrap().to_owned();
    let (mut dirty, mut wraps, mut last) = (0, 0, 0);
    let mount = image.mount("rw,logbsize=256k");
    let mut numbers = Numbers(4);
    for _ in 0..60 {
        act(mount.path(), &mut numbers, 400);
        // The state in the middle of everything, as the disk has it at this moment.
        run("cp", &["--sparse=always", image.path().to_str().unwrap(), &copy_name]);
        let state = ours(&copy);
        assert_eq!(state, logprint(&copy));
        if let LogState::Dirty { head, .. } = state {
            dirty += 1;
            wraps += u64::from(head < last);
            last = head;
        }
    }
    drop(mount);
    println!("dirty {dirty} times, went round {wraps} times");
    assert!(dirty > 50 && wraps > 1);
    assert_eq!(check(&image), LogState::Clean);
}

/// Where the log of an image begins and how long it is, in bytes.
fn log_place(image: &Image) -> (u64, u64) {
    let text = image.xfs_db(&["sb 0", "print logstart logblocks blocksize", "convert fsblock"]);
    let number = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let start = image.xfs_db(&["sb 0", &format!("convert fsblock {} byte", number("logstart"))]);
    let start = start.split('(').nth(1).unwrap().trim_end().trim_end_matches(')').parse().unwrap();
    (start, number("logblocks") * number("blocksize"))
}

/// Records that did not reach the disk whole end the log; where only such follow a clean unmount, the log is
/// clean. xfs_logprint does not look at checksums, but the kernel does: it mounts a volume on a device that it
/// may not write exactly where nothing is to be recovered.
#[test]
fn state_last_records_torn_equals_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &[]);
    let mut numbers = Numbers(9);
    {
        let mount = image.mount("rw");
        act(mount.path(), &mut numbers, 50);
    }
    assert_eq!(check(&image), LogState::Clean);
    let (start, _) = log_place(&image);
    let mut clean = 0;
    for round in 0..6 {
        let mount = image.mount("rw");
        for _ in 0..round {
            act(mount.path(), &mut numbers, 3);
        }
        fs::write(mount.path().join("last"), b"last").unwrap();
        shut_down(mount.path(), true);
        drop(mount);
        let LogState::Dirty { head, .. } = check(&image) else { panic!("clean after a shutdown") };
        let file = FileOptions::new().read(true).write(true).open(image.path()).unwrap();
        for back in [1, 2, 3, 5, 8, 16, 40] {
            let Some(block) = head.checked_sub(back) else { continue };
            let at = start + block * 512;
            let mut whole = [0; 512];
            file.read_exact_at(&mut whole, at).unwrap();
            let mut torn = whole;
            // In the middle of the block, so that its cycle stays, or all of it.
            if numbers.below(3) == 0 {
                torn.fill(0);
            } else {
                torn[200] ^= 0xff;
            }
            file.write_all_at(&torn, at).unwrap();
            let state = log_state(ImageFile::open(image.path()));
            let is_clean = state.as_ref().is_ok_and(|state| *state == LogState::Clean);
            assert_eq!(is_clean, kernel_has_nothing_to_recover(&image), "{state:?}, block {block} of {head}");
            clean += u64::from(is_clean);
            file.write_all_at(&whole, at).unwrap();
        }
        // Recover, for the next round.
        drop(image.mount("rw"));
        assert_eq!(check(&image), LogState::Clean);
    }
    assert!(clean > 3, "{clean}");
}

fn kernel_has_nothing_to_recover(image: &Image) -> bool {
    let device = run("losetup", &["-r", "-f", "--show", image.path().to_str().unwrap()]);
    let device = device.trim();
    let point = image.folder().join("read-only");
    fs::create_dir_all(&point).unwrap();
    let mounted = Command::new("mount").args(["-t", "xfs", "-o", "ro", device]).arg(&point).output().unwrap();
    let mounted = mounted.status.success();
    if mounted {
        run("umount", &[point.to_str().unwrap()]);
    }
    run("losetup", &["-d", device]);
    mounted
}

#[test]
fn state_v4_as_mkfs_leaves_it_is_clean() {
    if !can_make() {
        return;
    }
    for arguments in
        [&["-m", "crc=0"][..], &["-m", "crc=0", "-l", "version=1"], &["-m", "crc=0", "-b", "size=512"]]
    {
        assert_eq!(check(&Image::make("400M", arguments)), LogState::Clean, "{arguments:?}");
    }
}

#[test]
fn state_zeroed_log_is_clean() {
    if !can_make() {
        return;
    }
    let image = Image::make("400M", &[]);
    let (start, length) = log_place(&image);
    let file = FileOptions::new().write(true).open(image.path()).unwrap();
    file.write_all_at(&vec![0; length as usize], start).unwrap();
    assert_eq!(ours(image.path()), LogState::Clean);
}

#[test]
fn state_zeroed_log_of_a_volume_in_use_is_an_error_as_for_the_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &[]);
    image.fill("touch file; sync");
    image.fill("touch another; sync");
    assert_eq!(check(&image), LogState::Clean);
    let (start, length) = log_place(&image);
    let file = FileOptions::new().write(true).open(image.path()).unwrap();
    file.write_all_at(&vec![0; length as usize], start).unwrap();
    assert!(matches!(log_state(ImageFile::open(image.path())), Err(Error::Corrupt(_))));
    assert!(!kernel_has_nothing_to_recover(&image));
    image.try_open(&OpenOptions { norecovery: true, ..OpenOptions::default() }).unwrap();
}

#[test]
fn state_overwritten_log_is_an_error_and_norecovery_opens() {
    if !can_make() {
        return;
    }
    let image = Image::make("400M", &[]);
    let (start, length) = log_place(&image);
    let file = FileOptions::new().write(true).open(image.path()).unwrap();
    let mut numbers = Numbers(1);
    for fill in 0..40 {
        let noise: Vec<u8> = match fill {
            0 => vec![0xff; length as usize],
            1 => vec![1; length as usize],
            2 => [0xfe, 0xed, 0xba, 0xbe].repeat(length as usize / 4),
            3 => [0xfe, 0xed, 0xba, 0xbe, 0, 0, 0, 1].repeat(length as usize / 8),
            _ => {
                (0..length).map(|place| if place % 512 < 8 { numbers.below(3) as u8 } else { 0xfe }).collect()
            }
        };
        file.write_all_at(&noise, start).unwrap();
        // Whatever it answers, it answers.
        let state = log_state(ImageFile::open(image.path()));
        if fill < 2 {
            assert!(matches!(state, Err(Error::Corrupt(_))), "{state:?}");
        }
        image.try_open(&OpenOptions { norecovery: true, ..OpenOptions::default() }).unwrap();
    }
}

#[test]
fn state_external_log_is_refused_unless_norecovery() {
    if !can_make() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let log = folder.path().join("log.img");
    let log = log.to_str().unwrap();
    run("truncate", &["-s", "80m", log]);
    let image = Image::make("400M", &["-l", &format!("logdev={log},size=64m")]);
    let refused = image.try_open(&OpenOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::NeedsRecovery(why) if why.contains("another device")), "{refused}");
    image.try_open(&OpenOptions { norecovery: true, ..OpenOptions::default() }).unwrap();
}
