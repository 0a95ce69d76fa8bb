//! What a mount tells about itself and about where files lie.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Result, ensure};
use homi_abi::extents as abi;
use homi_client::{ClientError, NvmeStatus, Session};
use mounts::{HomifsMount, image_of};
use oracle::{KernelMount, fiemap, machine, skip_if};
use rustix::fs::getxattr;
use rustix::io::Errno;
use serde_json::{Value, json};

fn attribute(path: &std::path::Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 64 << 10];
    let length = getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

#[test]
fn map_of_many_extents_is_given_in_parts_that_all_forms_agree_on() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, format) = image_of("ext4-default")?;
    let (kernel, homifs) = (KernelMount::read_only(&image, format)?, HomifsMount::new(&image, "")?);
    let path = homifs.join("holes/alternating");
    let expected = fiemap(File::open(kernel.path().join("holes/alternating"))?.as_fd())?;
    assert!(expected.len() > 300, "{} extents prove little", expected.len());

    let value = attribute(&path, "homi.extents")?;
    let (header, entries) = abi::decode(&value)?;
    let found: Vec<_> = entries.map(|e| (e.logical.get(), e.physical.get(), e.length.get())).collect();
    assert_eq!(found, expected.iter().map(|e| (e.logical, e.physical, e.length)).collect::<Vec<_>>());
    assert_eq!(header.block_size.get(), 4096);
    assert_eq!(header.file_size.get(), fs::metadata(&path)?.len());

    let text: Value = serde_json::from_slice(&attribute(&path, "homi.extents.json")?)?;
    assert_eq!((&text["version"], &text["total"]), (&json!(1), &json!(expected.len())));
    let given = text["extents"].as_array().map_or(0, Vec::len);
    assert!(given > 0);
    for (extent, expected) in text["extents"].as_array().into_iter().flatten().zip(&expected) {
        assert_eq!(extent["logical_bytes"], json!(expected.logical));
        assert_eq!(extent["physical_bytes"], json!(expected.physical));
        assert_eq!(extent["length_bytes"], json!(expected.length));
    }

    let line = String::from_utf8(attribute(&path, "homi.layout")?)?;
    assert!(line.contains(&format!("extents={}", expected.len())) && !line.contains('\n'), "{line}");
    Ok(())
}

#[test]
fn mapped_bytes_read_from_the_image_are_the_file() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    use std::os::unix::fs::FileExt;
    let (image, _) = image_of("xfs-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    let path = homifs.join("holes/whole-82020");
    let (contents, device) = (fs::read(&path)?, File::open(&image)?);
    let value = attribute(&path, "homi.extents")?;
    let (header, entries) = abi::decode(&value)?;
    let mut rebuilt = vec![0; contents.len()];
    for entry in entries {
        let start = usize::try_from(entry.logical.get())?;
        let length = usize::try_from(entry.length.get())?.min(contents.len() - start);
        let place = header.volume_start.get() + entry.physical.get();
        device.read_exact_at(&mut rebuilt[start..start + length], place)?;
    }
    assert!(rebuilt == contents, "the bytes at the places that the map tells are not the file's");
    Ok(())
}

#[test]
fn own_attributes_are_answered_but_not_listed() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    let path = homifs.join("attributes/regular");
    let mut list = vec![0; 4096];
    let length = rustix::fs::listxattr(&path, &mut list[..])?;
    let list = String::from_utf8_lossy(&list[..length]).into_owned();
    assert!(list.contains("user.kind") && !list.contains("homi."), "{list}");
    assert!(attribute(&path, "homi.layout").is_ok());
    assert_eq!(attribute(&path, "homi.nothing"), Err(Errno::NODATA));
    assert_eq!(attribute(&path, "user.nothing"), Err(Errno::NODATA));
    // One that the kernel has no handler for must not turn attributes off for the rest of the mount.
    assert!(attribute(&path, "strange.name").is_err());
    assert_eq!(attribute(&path, "user.kind")?, b"user");
    Ok(())
}

#[test]
fn special_files_tell_volume_state_and_counters() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    let directory = homifs.join(".homi");
    assert!(fs::read_dir(homifs.path())?.all(|entry| entry.is_ok_and(|entry| entry.file_name() != ".homi")));

    let volume: Value = serde_json::from_slice(&fs::read(directory.join("volume"))?)?;
    assert_eq!(volume["version"], 1);
    assert_eq!(volume["format"], "ext4");
    assert_eq!(volume["block_size_bytes"], 4096);
    assert_eq!(
        volume["uuid"].as_str().map(|uuid| uuid.replace('-', "")),
        Some(oracle::image::UUID.replace('-', ""))
    );
    let state: Value = serde_json::from_slice(&fs::read(directory.join("state"))?)?;
    assert_eq!(state["read_only"], true);

    let stats = || fs::read_to_string(directory.join("stats"));
    let first = stats()?;
    fs::read(homifs.join("holes/whole-82020"))?;
    let second = stats()?;
    assert!(first.contains("# TYPE") && first != second, "{second}");
    Ok(())
}

/// Asks the control file by its ioctl, which also works on a mount that refuses writers.
fn ask(control: &File, request: &str) -> Result<Value> {
    const SIZE: u32 = 8192;
    let mut buffer = request.as_bytes().to_vec();
    buffer.resize(SIZE.try_into()?, 0);
    let number = homi_abi::control::ioctl(SIZE).expect("an ioctl has room for this size");
    // SAFETY: the ioctl's number says that it reads and writes SIZE bytes, and the buffer has as many.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), number.into(), buffer.as_mut_ptr()) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
    Ok(serde_json::from_slice(&buffer[..end])?)
}

#[test]
fn control_file_extents_request_gives_what_the_attribute_gives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    let path = homifs.join(".homi/control");
    let refused = File::options().read(true).write(true).open(&path).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "the kernel asks nobody before it refuses writers");

    let control = File::open(path)?;
    let attribute: Value =
        serde_json::from_slice(&attribute(&homifs.join("holes/alternating"), "homi.extents.json")?)?;
    let total = attribute["total"].as_u64().expect("a map tells its length");
    let mut extents = Vec::new();
    while (extents.len() as u64) < total {
        let request = json!({"op": "extents", "path": "holes/alternating", "first": extents.len()});
        let answer = ask(&control, &request.to_string())?;
        assert_eq!((&answer["ok"], &answer["total"]), (&json!(true), &attribute["total"]));
        let part = answer["extents"].as_array().expect("an answer lists extents");
        assert!(!part.is_empty(), "{answer}");
        extents.extend(part.iter().cloned());
    }
    let given = attribute["extents"].as_array().expect("the attribute lists extents");
    assert_eq!(extents[..given.len()], given[..]);

    for wrong in ["", "{", r#"{"op":"nothing"}"#, r#"{"op":"extents","path":"no/such/file"}"#] {
        let answer = ask(&control, wrong)?;
        assert_eq!(answer["ok"], false, "{wrong}: {answer}");
        assert!(answer["error"].is_string(), "{wrong}: {answer}");
    }
    Ok(())
}

#[test]
fn file_that_is_taken_back_answers_namespace_not_ready() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let mount = HomifsMount::new(&image_of("xfs-default")?.0, "clients=1")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(mount.join("holes"))? {
        let entry = entry?;
        if entry.metadata()?.is_file() && entry.metadata()?.len() > 4096 {
            files.push(entry.path());
        }
    }
    let [path, other] = &files[..2] else { anyhow::bail!("no two files") };
    let session = Session::of_file(File::open(path)?)?;
    let (file, kept) = (session.open(File::open(path)?)?, session.open(File::open(other)?)?);
    let mut reader = session.reader(65536)?;
    let mut bytes = vec![0; 512];
    reader.read(&file, 0, &mut bytes)?;
    let inside = path.strip_prefix(mount.path())?.display().to_string();
    let request = serde_json::json!({ "op": "revoke", "path": inside }).to_string();
    let answer = ask(&File::open(mount.join(".homi/control"))?, &request)?;
    ensure!(answer["handles"] == 1, "{answer}");
    ensure!(!file.is_held());
    match reader.read(&file, 0, &mut bytes) {
        Err(ClientError::Command { status, .. }) => ensure!(status.code() == NvmeStatus::NAMESPACE_NOT_READY),
        other => anyhow::bail!("read what was taken back: {other:?}"),
    }
    ensure!(kept.is_held());
    reader.read(&kept, 0, &mut bytes)?;
    Ok(())
}
