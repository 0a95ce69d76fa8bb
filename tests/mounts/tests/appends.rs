//! Files that grow while others read them: what is there stays where it is, so nobody need let go of it.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use anyhow::{Result, bail, ensure};
use homi_client::{ClientError, ExtentMap, NvmeStatus, Session};
use mounts::{FreshVolume, as_user};
use oracle::command::run;
use oracle::{Format, KernelMount, machine, skip_if};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxFlags, fallocate};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

fn generation(path: &Path) -> Result<u64> {
    Ok(ExtentMap::of_file(&File::open(path)?)?.generation)
}

#[test]
fn append_beside_a_reader_with_queues_takes_nothing_back_and_makes_a_new_generation() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=1")?;
        let path = mount.join("log");
        fs::write(&path, vec![1; 10_000])?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let (old, mut reader) = (session.open(File::open(&path)?)?, session.reader(1 << 20)?);
        let (before, word) = (generation(&path)?, old.lease_changes());

        let mut writer = OpenOptions::new().append(true).open(&path)?;
        ensure!(old.is_held() && old.lease_changes() == word, "{format:?}: opening changes nothing");
        for _ in 0..5 {
            writer.write_all(&[2; 3000])?;
        }
        ensure!(old.is_held(), "{format:?}: the file was taken back");
        ensure!(old.lease_changes() != word, "{format:?}: the lease word tells of no change");
        ensure!(generation(&path)? > before, "{format:?}: the generation is the same");
        let mut bytes = vec![0; 30_000];
        ensure!(reader.read(&old, 0, &mut bytes)? == 10_000, "{format:?}: the old size");
        ensure!(bytes[..10_000].iter().all(|&byte| byte == 1), "{format:?}: the old bytes");

        // What was written before somebody opened it is seen by them, with the writer still there.
        let (new, mut second) = (session.open(File::open(&path)?)?, session.reader(1 << 20)?);
        ensure!(second.read(&new, 0, &mut bytes)? == 25_000, "{format:?}: the new size");
        ensure!(bytes[10_000..25_000].iter().all(|&byte| byte == 2), "{format:?}: the new bytes");
        ensure!(new.generation() == generation(&path)?, "{format:?}: the generation of what is open");

        // Room behind the end moves nothing either; a longer file does not.
        fallocate(&writer, FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20)?;
        writer.set_len(2 << 20)?;
        ensure!(old.is_held() && new.is_held(), "{format:?}: taken back by growth");
        writer.set_len(100)?;
        ensure!(!old.is_held() && !new.is_held(), "{format:?}: cut, and not taken back");
        drop((old, new, reader, second, session, writer));
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn program_that_takes_append_back_and_writes_inside_takes_the_file_back() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=1")?;
        let path = mount.join("log");
        fs::write(&path, vec![1; 10_000])?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let (held, mut reader) = (session.open(File::open(&path)?)?, session.reader(1 << 20)?);
        let writer = OpenOptions::new().append(true).open(&path)?;
        rustix::fs::fcntl_setfl(&writer, OFlags::empty())?;
        writer.write_all_at(&[9; 10], 5000)?;
        ensure!(!held.is_held(), "{format:?}: still held");
        match reader.read(&held, 0, &mut vec![0; 512]) {
            Err(ClientError::Command { status, .. }) if status.code() == NvmeStatus::NAMESPACE_NOT_READY => {}
            other => bail!("{format:?}: read what was taken back: {other:?}"),
        }
        let mut expected = vec![1; 10_000];
        expected[5000..5010].fill(9);
        ensure!(fs::read(&path)? == expected, "{format:?}: the bytes are in another place");
        drop((held, reader, session, writer));
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn append_to_a_block_shared_with_another_file_takes_it_back_since_it_moves() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Xfs)?;
    {
        let kernel = KernelMount::with_options(&volume.image, Format::Xfs, "rw")?;
        fs::write(kernel.path().join("one"), vec![5; 6000])?;
        run(
            "cp",
            [
                "--reflink=always".as_ref(),
                kernel.path().join("one").as_os_str(),
                kernel.path().join("two").as_os_str(),
            ],
        )?;
    }
    let mount = volume.mount("clients=1")?;
    let path = mount.join("one");
    let session = Session::of_file(File::open(mount.path())?)?;
    let held = session.open(File::open(&path)?)?;
    OpenOptions::new().append(true).open(&path)?.write_all(b"more")?;
    ensure!(!held.is_held(), "still held, and its last block has moved");
    ensure!(fs::read(mount.join("two"))? == vec![5; 6000], "the other file changed");
    drop((held, session));
    volume.unmount_and_check(mount)
}

#[test]
fn append_after_a_copy_by_reference_takes_the_source_back() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Xfs)?;
    let mount = volume.mount("clients=1")?;
    let path = mount.join("one");
    fs::write(&path, vec![5; 6000])?;
    File::open(&path)?.sync_all()?;
    let session = Session::of_file(File::open(mount.path())?)?;
    let held = session.open(File::open(&path)?)?;
    let (from, to) = (File::open(&path)?, File::create(mount.join("two"))?);
    let mut copied = 0;
    while copied < 6000 {
        let (mut at, mut to_at) = (copied, copied);
        let length = usize::try_from(6000 - copied)?;
        copied +=
            u64::try_from(rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), length)?)?;
    }
    ensure!(held.is_held(), "the copy moved nothing of it");
    OpenOptions::new().append(true).open(&path)?.write_all(b"more")?;
    ensure!(!held.is_held(), "still held, and its last block has moved");
    drop((held, session, from, to));
    ensure!(fs::read(mount.join("two"))? == vec![5; 6000], "the other file changed");
    volume.unmount_and_check(mount)
}

/// Several programs append records to one file at once, while one reads it by every path: each record is whole.
#[test]
fn records_appended_by_several_programs_are_whole_and_all_there() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    const WRITERS: u8 = 4;
    const RECORDS: usize = 200;
    const LENGTH: usize = 777;
    for format in FORMATS {
        for options in
            ["reads=auto,clients=1", "reads=engine,clients=1", "reads=kernel,clients=1", "reads=auto"]
        {
            let volume = FreshVolume::new(format)?;
            let mount = volume.mount(options)?;
            let path = mount.join("log");
            File::create(&path)?;
            let check = |bytes: &[u8], what: &str| -> Result<()> {
                for (place, record) in bytes.chunks_exact(LENGTH).enumerate() {
                    let whole =
                        record.iter().all(|&byte| byte == record[0]) && (1..=WRITERS).contains(&record[0]);
                    ensure!(whole, "{format:?} {options}: record {place} {what} is torn: {:?}", &record[..8]);
                }
                Ok(())
            };
            thread::scope(|scope| -> Result<()> {
                let writers: Vec<_> = (1..=WRITERS)
                    .map(|writer| {
                        let path = &path;
                        scope.spawn(move || -> Result<()> {
                            let mut file = OpenOptions::new().append(true).open(path)?;
                            for _ in 0..RECORDS {
                                ensure!(file.write(&[writer; LENGTH])? == LENGTH, "a short write");
                            }
                            Ok(())
                        })
                    })
                    .collect();
                while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                    check(&fs::read(&path)?, "as it is written")?;
                }
                writers.into_iter().try_for_each(|writer| writer.join().expect("a writer panicked"))
            })?;
            let bytes = fs::read(&path)?;
            let all = usize::from(WRITERS) * RECORDS * LENGTH;
            ensure!(bytes.len() == all, "{format:?} {options}: {} bytes of {all}", bytes.len());
            ensure!(fs::metadata(&path)?.size() == all as u64);
            check(&bytes, "at the end")?;
            volume.unmount_and_check(mount)?;
        }
    }
    Ok(())
}

#[test]
fn new_file_that_is_appended_to_loses_its_set_user_id_bit_for_everybody_to_see() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        // With clients, appends come to the daemon.
        let mount = volume.mount("clients=1")?;
        for folder in [Some(mount.path()), mount.path().parent()].into_iter().flatten() {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))?;
        }
        let path = mount.join("set-user-id");
        as_user(65534, || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND;
            let mut file = File::from(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o4755))?);
            Ok(file.write_all(b"not what it was made for")?)
        })?;
        // The mode alone: whoever asks for times and sizes too is told anew anyway.
        let told = rustix::fs::statx(rustix::fs::CWD, &path, AtFlags::empty(), StatxFlags::MODE)?;
        assert_eq!(told.stx_mode & 0o7777, 0o755, "{format:?}");
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}
