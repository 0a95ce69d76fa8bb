//! Files that clients write with queues of their own: what they write is what everybody reads.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use homi_client::{ClientError, ExtentMap, Session};
use mounts::{FreshVolume, HomifsMount, Numbers};
use oracle::{Format, KernelMount, machine, skip_if};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

fn refusal(result: Result<homi_client::OpenFile, ClientError>) -> String {
    match result {
        Ok(_) => "it was opened".to_owned(),
        Err(ClientError::System { source, .. }) => format!("{:?}", source.raw_os_error()),
        Err(ClientError::Refused { errno, .. }) => format!("Some({errno})"),
        Err(other) => other.to_string(),
    }
}

#[test]
fn what_a_client_writes_by_queues_is_what_everybody_reads() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        for reads in ["reads=auto,clients=1", "reads=engine,clients=1"] {
            let volume = FreshVolume::new(format)?;
            let mount = volume.mount(reads)?;
            let path = mount.join("file");
            // Holes that the writes have to fill, and an end within a block.
            const SIZE: usize = (3 << 20) + 1234;
            File::create(&path)?.set_len(SIZE as u64)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o4755))?;
            let mut model = vec![0_u8; SIZE];
            let before = ExtentMap::of_file(&File::open(&path)?)?.generation;
            let session = Session::of_file(File::open(mount.path())?)?;
            let file = session.open_to_write(OpenOptions::new().write(true).read(true).open(&path)?)?;
            ensure!(file.is_writable() && file.size() == SIZE as u64, "{format:?}");
            // Pieces are a quarter of the memory. By PRP they have one page, two or a list, and of the larger ones the lists
            // lie in more than one page.
            let mut writers = [
                session.writer(256 << 10)?,
                session.writer_by_prp(256 << 10)?,
                session.writer_by_prp(4 << 20)?,
            ];
            let mut reader = session.reader(256 << 10)?;
            let mut numbers = Numbers(0x5851_f42d_4c95_7f2d);
            for round in 0..60 {
                let block = u64::from(file.block_size());
                let start = numbers.below(SIZE as u64 / block) * block;
                let end = (start + (1 + numbers.below(600)) * block).min(SIZE as u64);
                let bytes: Vec<u8> = (start..end).map(|_| numbers.next() as u8).collect();
                writers[usize::from(round % 3)].write(&file, start, &bytes)?;
                model[start as usize..end as usize].copy_from_slice(&bytes);
                // A program's write between, in the same file.
                let at = numbers.below(SIZE as u64 - 100);
                OpenOptions::new().write(true).open(&path)?.write_all_at(&[round; 100], at)?;
                model[at as usize..at as usize + 100].fill(round);
                let mut seen = vec![0; SIZE];
                ensure!(
                    reader.read(&file, 0, &mut seen)? == SIZE && seen == model,
                    "{format:?} {reads} round {round}: by queues"
                );
                ensure!(fs::read(&path)? == model, "{format:?} {reads} round {round}: by read(2)");
            }
            for writer in &mut writers {
                writer.flush(&file)?;
            }
            let told = fs::metadata(&path)?;
            ensure!(told.size() == SIZE as u64, "{format:?}: the size is {}", told.size());
            ensure!(told.permissions().mode() & 0o7000 == 0, "{format:?}: still set-user-ID");
            // Nobody gets its blocks meanwhile.
            let said = refusal(session.open(File::open(&path)?));
            ensure!(said == format!("Some({})", libc::ETXTBSY), "{format:?}: {said}");
            drop((file, writers));
            ensure!(
                ExtentMap::of_file(&File::open(&path)?)?.generation > before,
                "{format:?}: the same generation"
            );
            let file = session.open(File::open(&path)?)?;
            let mut seen = vec![0; SIZE];
            ensure!(
                reader.read(&file, 0, &mut seen)? == SIZE && seen == model,
                "{format:?} {reads}: from the media"
            );
            drop((file, reader, session));
            volume.unmount_and_check(mount)?;
            let kernel = KernelMount::read_only(&volume.image, format)?;
            ensure!(
                fs::read(kernel.path().join("file"))? == model,
                "{format:?} {reads}: the kernel reads something else"
            );
        }
    }
    Ok(())
}

#[test]
fn client_that_holds_a_file_loses_it_to_one_that_writes() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = volume.mount("clients=1")?;
    let path = mount.join("file");
    fs::write(&path, vec![1; 8192])?;
    let (one, other) =
        (Session::of_file(File::open(mount.path())?)?, Session::of_file(File::open(mount.path())?)?);
    let held = one.open(File::open(&path)?)?;
    let written = other.open_to_write(OpenOptions::new().write(true).open(&path)?)?;
    ensure!(!held.is_held(), "still held");
    let mut writer = other.writer(64 << 10)?;
    ensure!(writer.write(&written, 512, &[7; 100]).is_err(), "half a block");
    ensure!(writer.write(&written, 8192, &[7; 512]).is_err(), "behind the end");
    writer.write(&written, 512, &[7; 1024])?;
    // It loses its name; the client goes on with what it has open.
    fs::remove_file(&path)?;
    writer.write(&written, 0, &[8; 512])?;
    drop((held, written, writer, one, other));
    volume.unmount_and_check(mount)
}

#[test]
fn handle_to_write_is_for_those_who_may_and_where_writing_goes() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = volume.mount("clients=1")?;
    let path = mount.join("file");
    fs::write(&path, vec![1; 8192])?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    let asked = |path: &Path| -> Result<String> {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["getfattr", "--absolute-names", "--only-values", "-n", "homi.handle.write"])
            .arg(path)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    let said = asked(&path)?;
    ensure!(said.contains("Permission denied"), "somebody who may only read: {said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    let said = asked(&path)?;
    ensure!(said.starts_with("homihdl"), "somebody who may write: {said}");

    // A handle to read buys no writing.
    let session = Session::of_file(File::open(mount.path())?)?;
    let file = session.open(File::open(&path)?)?;
    let mut writer = session.writer(64 << 10)?;
    ensure!(!file.is_writable() && writer.write(&file, 0, &[0; 512]).is_err());
    drop((file, writer, session));
    volume.unmount(mount)?;

    let mount = HomifsMount::of_spec(&volume.image, "ro,clients=1")?;
    let session = Session::of_file(File::open(mount.path())?)?;
    let said = refusal(session.open_to_write(File::open(mount.join("file"))?));
    if said != format!("Some({})", libc::EROFS) {
        bail!("on a read-only mount: {said}");
    }
    Ok(())
}

#[test]
fn full_volume_is_told_by_the_status_of_the_command() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = volume.mount("clients=1")?;
    let path = mount.join("file");
    const SIZE: u64 = 1 << 30;
    File::create(&path)?.set_len(SIZE)?;
    let session = Session::of_file(File::open(mount.path())?)?;
    let file = session.open_to_write(OpenOptions::new().write(true).open(&path)?)?;
    let mut writer = session.writer(4 << 20)?;
    let bytes = vec![0x5a; 4 << 20];
    let mut outcome = Ok(());
    for place in 0..SIZE / bytes.len() as u64 {
        outcome = writer.write(&file, place * bytes.len() as u64, &bytes).and_then(|()| writer.flush(&file));
        if outcome.is_err() {
            break;
        }
    }
    let Err(ClientError::WriteCommand { status, .. }) = outcome else {
        bail!("1 GiB in 320 MiB: {outcome:?}")
    };
    ensure!(status.code() == 0x81, "the status is {status}, not Capacity Exceeded");
    drop((file, writer, session));
    volume.unmount_and_check(mount)
}
