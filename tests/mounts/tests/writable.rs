//! Mounts that are written: what the kernel's driver below and the engine beside it say must be the same.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mounts::{FreshVolume as Volume, HomifsMount, Numbers};
use oracle::command::{finish, run};
use oracle::{Format, KernelMount, machine, skip_if};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::Signal;

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];
const READS: [&str; 3] = ["reads=auto", "reads=engine", "reads=kernel"];
/// Ways in which ext4 brings bytes to their place later than it says that they are safe.
const LATE: [&str; 2] = ["reads=engine,data=journal", "reads=engine,data=writeback,nodelalloc"];

const MOST: u64 = 3 << 20;

/// One change of a file, made to the file and to what it must be.
fn change(numbers: &mut Numbers, file: &File, model: &mut Vec<u8>) -> Result<String> {
    let offset = numbers.below(MOST);
    let length = 1 + numbers.below(200 << 10).min(MOST - offset);
    let (start, end) = (offset as usize, (offset + length) as usize);
    Ok(match numbers.below(10) {
        0..5 => {
            let bytes: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
            file.write_all_at(&bytes, offset)?;
            model.resize(model.len().max(end), 0);
            model[start..end].copy_from_slice(&bytes);
            format!("write {length} at {offset}")
        }
        5..7 => {
            file.set_len(offset)?;
            model.resize(start, 0);
            format!("truncate to {offset}")
        }
        7 => {
            fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)?;
            let end = end.min(model.len());
            model.get_mut(start.min(end)..end).unwrap_or_default().fill(0);
            format!("punch {length} at {offset}")
        }
        8 => {
            fallocate(file, FallocateFlags::empty(), offset, length)?;
            model.resize(model.len().max(end), 0);
            format!("allocate {length} at {offset}")
        }
        _ => {
            fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length)?;
            let end = end.min(model.len());
            model.get_mut(start.min(end)..end).unwrap_or_default().fill(0);
            format!("zero {length} at {offset}")
        }
    })
}

fn whole(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn file_changed_at_random_reads_as_it_should_by_every_path() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let late = if format == Format::Ext4 { LATE.as_slice() } else { &[] };
        for &reads in READS.iter().chain(late) {
            let volume = Volume::new(format)?;
            let mount = volume.mount(reads)?;
            let path = mount.join("file");
            let (mut numbers, mut model) = (Numbers(0x9e37_79b9_7f4a_7c15), Vec::new());
            let mut reader: Option<File> = None;
            for round in 0..60 {
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
                let mut done = Vec::new();
                for _ in 0..1 + numbers.below(4) {
                    done.push(change(&mut numbers, &file, &mut model)?);
                }
                let what = || format!("{format:?} {reads} round {round}: {done:?}");
                if round % 3 == 0 {
                    // While somebody may still be writing.
                    ensure!(whole(&path)? == model, "{} with a writer", what());
                }
                drop(file);
                ensure!(whole(&path)? == model, "{}", what());
                // One that was open before, and saw another state.
                if let Some(reader) = &reader {
                    let mut bytes = vec![0; model.len() + 1];
                    let length = reader.read_at(&mut bytes, 0)?;
                    let first = &bytes[..length];
                    ensure!(
                        first == &model[..length] && (length > 0 || model.is_empty()),
                        "{} by an old reader",
                        what()
                    );
                }
                let opened = File::open(&path)?;
                // SAFETY: Nobody changes the file while the mapping is looked at.
                let mapped = unsafe { memmap2::Mmap::map(&opened) };
                if !model.is_empty() {
                    ensure!(mapped?[..] == model[..], "{} by a mapping", what());
                }
                ensure!(fs::metadata(&path)?.len() == model.len() as u64, "{}: its size", what());
                reader = (round % 2 == 0).then_some(opened);
            }
            drop(reader);
            volume.unmount_and_check(mount)?;
            let kernel = KernelMount::read_only(&volume.image, format)?;
            ensure!(
                whole(&kernel.path().join("file"))? == model,
                "{format:?} {reads}: the kernel reads something else"
            );
        }
    }
    Ok(())
}

#[test]
fn clean_file_is_read_by_the_engine_once_and_by_the_kernel_where_that_is_faster() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let counter = |mount: &HomifsMount| -> Result<u64> {
        let stats = fs::read_to_string(mount.join(".homi/stats"))?;
        let line = stats.lines().find_map(|line| line.strip_prefix("homifs_device_read_bytes_total "));
        Ok(line.context("no such counter")?.parse()?)
    };
    for format in FORMATS {
        let volume = Volume::new(format)?;
        let contents: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let mount = volume.mount("reads=auto")?;
        fs::write(mount.join("file"), &contents)?;
        assert_eq!(whole(&mount.join("file"))?, contents);
        assert_eq!(counter(&mount)?, 0, "what was just written lies in the page cache");
        volume.unmount(mount)?;
        let mount = volume.mount("reads=auto")?;
        assert_eq!(whole(&mount.join("file"))?, contents);
        assert_eq!(counter(&mount)?, contents.len() as u64, "{format:?}: nobody has it in memory");
        let why =
            finish(Command::new(mounts::homifs()?).args(["info", "-o", "json"]).arg(mount.join("file")))?;
        assert!(why.contains("read before"), "{why}");
        assert_eq!(whole(&mount.join("file"))?, contents);
        assert_eq!(
            counter(&mount)?,
            contents.len() as u64,
            "{format:?}: what is read again is the page cache's"
        );
        volume.unmount(mount)?;
        let mount = volume.mount("reads=auto")?;
        let direct = format!("if={} bs=64K iflag=direct status=none", mount.join("file").display());
        let read = Command::new("dd").args(direct.split(' ')).output()?;
        assert!(
            read.status.success() && read.stdout == contents,
            "{}",
            String::from_utf8_lossy(&read.stderr)
        );
        assert_eq!(counter(&mount)?, 0, "{format:?}: past the page cache the file below is faster");
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

/// What a program sees of a tree: names, types, modes, owners, sizes, links, targets, contents.
fn seen(root: &Path) -> Result<String> {
    let script = "find . -not -path './lost+found*' -printf '%P %y %m %U %G %n %l ' -exec sh -c \
                  '[ -f \"$1\" ] && sha256sum < \"$1\" || echo' _ {} \\; | LC_ALL=C sort";
    finish(Command::new("sh").args(["-c", script]).current_dir(root))
}

#[test]
fn tree_made_by_programs_is_as_on_the_kernel_s_mount() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let script = r#"
        set -e
        umask 027
        mkdir -p a/b/c shared && chgrp 100 shared && chmod 2775 shared
        mkdir shared/below && echo x > shared/file
        for i in $(seq 300); do echo $i > a/f$i; done
        ln -s a/f1 link && ln a/f2 hard && mkfifo fifo && mknod device c 1 3
        mv a/f3 a/b/moved && mv a/b a/renamed && rm a/f4 && rmdir a/renamed/c
        echo exchange > one && echo other > two
        python3 -c 'import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True)
# RENAME_EXCHANGE, and RENAME_NOREPLACE, which is refused (EEXIST).
assert libc.renameat2(-100, b"one", -100, b"two", 2) == 0
assert libc.renameat2(-100, b"one", -100, b"two", 1) == -1 and ctypes.get_errno() == 17'
        chmod 640 a/f5 && chown 1000:1000 a/f6 && truncate -s 100000 a/f7 && chmod 4755 a/f8
        setfattr -n user.key -v value a/f9 && getfattr --only-values -n user.key a/f9 > a/value
        setfacl -m u:1000:rw a/f10 && setfacl -d -m g:100:rwx shared && touch shared/inherits
        getfacl -n a/f10 shared/inherits > acls
        tar cf - a | (mkdir copy && cd copy && tar xf -)
        cp -a a copied && rm -r a/renamed
        fallocate -l 65536 reserved && fallocate -p -o 4096 -l 8192 reserved
    "#;
    for format in FORMATS {
        let (ours, kernels) = (Volume::new(format)?, Volume::new(format)?);
        let mount = ours.mount("")?;
        let kernel = KernelMount::with_options(&kernels.image, format, "rw")?;
        for root in [mount.path(), kernel.path()] {
            finish(Command::new("bash").args(["-c", script]).current_dir(root))?;
        }
        assert_eq!(seen(mount.path())?, seen(kernel.path())?, "{format:?}");
        ours.unmount_and_check(mount)?;
        let again = KernelMount::read_only(&ours.image, format)?;
        assert_eq!(seen(again.path())?, seen(kernel.path())?, "{format:?}, mounted by the kernel afterwards");
    }
    Ok(())
}

#[test]
fn ordinary_user_gets_what_the_kernel_would_give() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let script = r"
        id -u
        echo mine > open/mine; stat -c '%u %g %a' open/mine
        mkdir open/sub; stat -c '%u %g %a' open/sub
        echo no > closed/no 2>&1 | sed 's/.*: //'; cat closed/secret 2>&1 | sed 's/.*: //'
        chmod 777 open/roots 2>&1 | sed 's/.*: //'; rm open/roots 2>&1 | sed 's/.*: //'
        echo more >> suid; stat -c '%a' suid
        touch -d @1 open/mine && stat -c '%X %Y' open/mine
        chown 0 open/mine 2>&1 | sed 's/.*: //'
        ln closed/secret open/secret 2>&1 | sed 's/.*: //'
        for of in mygroup othergroup; do setfacl -m u:1:r open/$of && stat -c '%a %g' open/$of; done
    ";
    let prepare = r"
        chmod 755 . && mkdir -m 1777 open && mkdir -m 700 closed && echo s > closed/secret && touch open/roots
        cp /bin/true suid && chmod 4777 suid
        touch open/mygroup open/othergroup && chown 65534:100 open/mygroup && chown 65534:200 open/othergroup
        chmod 2755 open/mygroup open/othergroup
    ";
    for format in FORMATS {
        let (ours, kernels) = (Volume::new(format)?, Volume::new(format)?);
        let mount = ours.mount("")?;
        let kernel = KernelMount::with_options(&kernels.image, format, "rw")?;
        let mut told = Vec::new();
        for root in [mount.path(), kernel.path()] {
            finish(Command::new("bash").args(["-c", prepare]).current_dir(root))?;
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--groups=100", "bash", "-c", script]);
            fs::set_permissions(root.parent().context("a parent")?, fs::Permissions::from_mode(0o1777))?;
            told.push(finish(command.current_dir(root))?);
        }
        assert_eq!(told[0], told[1], "{format:?}");
        ours.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn daemon_killed_while_writing_keeps_what_was_synced() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = Volume::new(format)?;
        let mut mount = volume.mount("")?;
        let synced = mount.join("synced");
        fs::write(&synced, vec![7; 1 << 20])?;
        File::open(&synced)?.sync_all()?;
        File::open(mount.path())?.sync_all()?;
        let writing = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "count=2000"])
            .arg(format!("of={}", mount.join("unsynced").display()))
            .stderr(std::process::Stdio::null())
            .spawn();
        let mut writing = writing?;
        std::thread::sleep(Duration::from_millis(100));
        mount.daemon().signal(Signal::KILL)?;
        mount.daemon().wait()?;
        let _ = writing.wait()?;
        ensure!(fs::metadata(&synced).is_err(), "nobody is there to answer");
        run("umount", [mount.path()])?;
        drop(mount);
        // The kernel lets go of the device when the last file on it is closed.
        let until = Instant::now() + Duration::from_secs(10);
        let again = loop {
            match volume.mount("") {
                Ok(mount) => break mount,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        assert_eq!(whole(&again.join("synced"))?, vec![7; 1 << 20], "{format:?}");
        volume.unmount_and_check(again)?;
    }
    Ok(())
}

#[test]
fn file_without_a_name_stays_until_it_is_closed() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = Volume::new(format)?;
        let mount = volume.mount("reads=engine")?;
        let path = mount.join("file");
        fs::write(&path, vec![9; 100_000])?;
        let (file, number) = (File::open(&path)?, fs::metadata(&path)?.ino());
        fs::rename(&path, mount.join("renamed"))?;
        assert_eq!(fs::metadata(mount.join("renamed"))?.ino(), number);
        fs::remove_file(mount.join("renamed"))?;
        // Whoever gets its blocks if they were free.
        fs::write(mount.join("other"), vec![1; 3_000_000])?;
        File::open(mount.join("other"))?.sync_all()?;
        let mut bytes = vec![0; 100_000];
        file.read_exact_at(&mut bytes, 0)?;
        assert!(bytes.iter().all(|&byte| byte == 9), "{format:?}");
        assert_eq!(file.metadata()?.nlink(), 0);
        drop(file);
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn file_that_is_removed_while_it_is_mapped_keeps_its_bytes() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        for reads in READS {
            let volume = Volume::new(format)?;
            let mount = volume.mount(reads)?;
            let path = mount.join("file");
            fs::write(&path, vec![9; 1 << 20])?;
            let file = File::open(&path)?;
            // SAFETY: Nobody changes the file while the mapping is looked at.
            let mapped = unsafe { memmap2::Mmap::map(&file) }?;
            drop(file);
            std::thread::sleep(Duration::from_millis(300));
            fs::remove_file(&path)?;
            fs::write(mount.join("other"), vec![1; 3 << 20])?;
            ensure!(mapped.iter().all(|&byte| byte == 9), "{format:?} {reads}");
            drop(mapped);
            volume.unmount_and_check(mount)?;
        }
    }
    Ok(())
}

#[test]
fn full_volume_says_so_and_goes_on() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = Volume::new(format)?;
        let mount = volume.mount("")?;
        let file = File::create(mount.join("large"))?;
        let chunk = vec![5; 1 << 20];
        let error = (0..1000).find_map(|place| file.write_all_at(&chunk, place << 20).err());
        let error = error.or_else(|| file.sync_all().err()).context("an endless volume")?;
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{format:?}: {error}");
        drop(file);
        // The kernel tells of a close a moment later.
        std::thread::sleep(Duration::from_millis(300));
        fs::remove_file(mount.join("large"))?;
        fs::write(mount.join("next"), vec![6; 100 << 20])
            .context("the space is free when unlink(2) returns")?;
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}
