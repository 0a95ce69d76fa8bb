//! What handles are good for: who gets one, and who may present it.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use homi_abi::session::Handle;
use homi_client::{ClientError, Session};
use mounts::{FreshVolume, HomifsMount, as_user, image_of};
use oracle::{Format, machine, skip_if};
use rustix::io::Errno;
use zerocopy::IntoBytes;

/// `nobody`, to whom the short ACL of the oracle's volumes grants reading.
const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 12345;

/// The handle that the attribute gives to who asks by path.
fn handle_at(path: &Path) -> Result<Handle, Errno> {
    let mut handle = Handle::default();
    rustix::fs::getxattr(path, c"homi.handle", handle.as_mut_bytes())?;
    Ok(handle)
}

/// The errno of a refusal by the daemon.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Result<i32> {
    match answer {
        Err(ClientError::Refused { errno, .. }) => Ok(errno),
        other => bail!("not refused: {other:?}"),
    }
}

fn is_not_root() -> Option<String> {
    machine::cannot_mount_fuse().or_else(|| {
        (!rustix::process::geteuid().is_root()).then(|| "only root becomes other users".to_owned())
    })
}

/// The beginning of a file, by queues.
fn beginning(session: &Session, handle: &Handle) -> Result<Vec<u8>> {
    let file = session.open_handle(handle)?;
    let mut bytes = vec![0; usize::try_from(file.size())?.min(4096)];
    session.reader(4096)?.read(&file, 0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn handle_is_given_to_readers_and_taken_from_readers_only() -> Result<()> {
    skip_if!(is_not_root());
    for volume in ["ext4-default", "xfs-default"] {
        let mount = HomifsMount::new(&image_of(volume)?.0, "clients=1")?;
        let open = mount.join("special/mode-0644");
        for path in ["special/mode-0000", "special/directory-0000"] {
            let path = mount.join(path);
            // Root gets one, whatever the mode; it is no use to whoever may not read.
            let handle = handle_at(&path)?;
            as_user(SOMEBODY, || {
                let given = handle_at(&path);
                ensure!(given.as_ref().err() == Some(&Errno::ACCESS), "{volume}: {given:?}");
                let session = Session::of_file(File::open(&open)?)?;
                ensure!(beginning(&session, &handle_at(&open)?)? == fs::read(&open)?, "{volume}: a reader");
                let presented = if path.is_dir() {
                    refusal(session.snapshot_of_handle(&handle))?
                } else {
                    refusal(session.open_handle(&handle))?
                };
                ensure!(presented == libc::EACCES, "{volume}: {} gave {presented}", path.display());
                Ok(())
            })?;
        }
        // Given to one reader, presented by another.
        let handle = as_user(NOBODY, || Ok(handle_at(&open)?))?;
        as_user(SOMEBODY, || {
            let session = Session::of_file(File::open(&open)?)?;
            ensure!(beginning(&session, &handle)? == fs::read(&open)?, "{volume}: another reader");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn access_list_decides_who_reads_by_queues() -> Result<()> {
    skip_if!(is_not_root());
    for volume in ["ext4-default", "xfs-default"] {
        let mount = HomifsMount::new(&image_of(volume)?.0, "clients=1")?;
        let (path, open) = (mount.join("attributes/acl-short"), mount.join("special/mode-0644"));
        let handle = handle_at(&path)?;
        let read = |id| {
            as_user(id, || {
                let session = Session::of_file(File::open(&open)?)?;
                match handle_at(&path) {
                    Ok(own) => Ok(Some((beginning(&session, &own)?, beginning(&session, &handle)?))),
                    Err(Errno::ACCESS) => {
                        ensure!(refusal(session.open_handle(&handle))? == libc::EACCES);
                        Ok(None)
                    }
                    Err(error) => Err(error.into()),
                }
            })
        };
        // What the kernel says of read(2) is what holds.
        for id in [NOBODY, SOMEBODY] {
            let allowed = as_user(id, || Ok(File::open(&path).is_ok()))?;
            ensure!(allowed == (id == NOBODY), "{volume}: the list grants what was not expected");
            ensure!(read(id)?.is_some() == allowed, "{volume}: user {id}");
        }
        let (own, given) = read(NOBODY)?.context("it was granted")?;
        let wanted = fs::read(&path)?;
        ensure!(own == wanted[..own.len()] && given == own, "{volume}: other bytes");
    }
    Ok(())
}

#[test]
fn handle_of_a_file_that_is_gone_is_stale_even_where_its_inode_serves_another() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=1")?;
        let session = Session::of_file(File::open(mount.path())?)?;
        let path = mount.join("file");
        let inode =
            |path: &Path| -> Result<u64> { Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata(path)?)) };
        fs::write(&path, vec![1; 8192])?;
        let (old, handle) = (inode(&path)?, handle_at(&path)?);
        session.open_handle(&handle)?;
        fs::remove_file(&path)?;
        ensure!(refusal(session.open_handle(&handle))? == libc::ESTALE, "{format:?}: after unlink");

        // Until one of the new files has the number. XFS gives inodes back in the background.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let mut again = None;
        for number in 0..500 {
            let other = mount.join(format!("other{number}"));
            fs::write(&other, vec![2; 8192])?;
            if inode(&other)? == old {
                again = Some(other);
                break;
            }
        }
        let again = again.with_context(|| format!("{format:?}: inode {old} was not used again"))?;
        ensure!(refusal(session.open_handle(&handle))? == libc::ESTALE, "{format:?}: another file's inode");
        ensure!(beginning(&session, &handle_at(&again)?)? == [2; 4096], "{format:?}: the new file");

        // Without a name, but open.
        let kept = File::open(&again)?;
        let handle = handle_at(&again)?;
        fs::remove_file(&again)?;
        ensure!(refusal(session.open_handle(&handle))? == libc::ESTALE, "{format:?}: without a name");
        drop((kept, session));
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}
