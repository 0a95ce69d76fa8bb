//! Extended attributes of every kind and size, ACLs, and inode flags.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{IFlags, XattrFlags, ioctl_getflags, ioctl_setflags, lsetxattr};

use super::{Place, bytes, file, where_possible};

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("attributes")?;
    every_kind_of_file(&folder)?;
    for size in [0, 1, 3, 20, 60, 100, 200, 500, 900, 2000, 3000, 3900, 4096, 10_000, 40_000, 65_536] {
        let path = folder.join(format!("value-{size}"));
        file(&path, 1)?;
        set(&path, "user.value", &bytes(size, size))?;
        set(&path, "user.after", b"after the large one")?;
    }
    for count in [2, 10, 40, 150, 600, 2000] {
        let path = folder.join(format!("count-{count}"));
        file(&path, 1)?;
        for number in 0..count {
            // On ext4, the first that does not fit ends it.
            if !set(&path, &format!("user.number-{number:04}"), &bytes(number, number % 50))? {
                break;
            }
        }
        // Some go again, so that gaps stay.
        for number in (0..count).step_by(3) {
            let _ = rustix::fs::lremovexattr(&path, format!("user.number-{number:04}"));
        }
    }
    let path = folder.join("long-names");
    file(&path, 1)?;
    for length in [1, 50, 200, 249, 250] {
        set(&path, &format!("user.{}", "n".repeat(length)), b"v")?;
    }
    same_attributes_in_many_files(&folder)?;
    acls(&folder)?;
    flags(&folder)
}

fn set(path: &Path, name: &str, value: &[u8]) -> Result<bool> {
    Ok(where_possible(lsetxattr(path, name, value, XattrFlags::empty()))?.is_some())
}

fn every_kind_of_file(folder: &Path) -> Result<()> {
    let regular = folder.join("regular");
    file(&regular, 10)?;
    let directory = folder.join("directory");
    fs::create_dir(&directory)?;
    let link = folder.join("link");
    symlink("regular", &link)?;
    let long_link = folder.join("long-link");
    symlink("x".repeat(500), &long_link)?;
    for path in [&regular, &directory, &link, &long_link] {
        set(path, "trusted.kind", b"trusted")?;
        set(path, "trusted.overlay.opaque", b"y")?;
        set(path, "security.kind", b"security\0with a zero")?;
    }
    for path in [&regular, &directory] {
        set(path, "user.kind", b"user")?;
        set(path, "user.not utf-8 \u{e9}", b"\xFF\xFE\x00\x01")?;
    }
    // cap_net_raw+ep, as setcap writes it: struct vfs_cap_data, version 2.
    let capability = [0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat();
    set(&regular, "security.capability", &capability)?;
    Ok(())
}

/// ext4 keeps one block for all files with the same attributes.
fn same_attributes_in_many_files(folder: &Path) -> Result<()> {
    for number in 0..10 {
        let path = folder.join(format!("same-{number}"));
        file(&path, 1)?;
        set(&path, "user.same", &bytes(7, 700))?;
    }
    Ok(())
}

/// An entry of `struct posix_acl_xattr_entry`.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn acls(folder: &Path) -> Result<()> {
    const ANYONE: u32 = u32::MAX;
    let (owner, user, group, some_group, mask, other) = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20);
    let short = acl(&[
        (owner, 6, ANYONE),
        (user, 4, 65_534),
        (group, 0, ANYONE),
        (mask, 4, ANYONE),
        (other, 0, ANYONE),
    ]);
    let mut long = vec![(owner, 7, ANYONE)];
    long.extend((0..20).map(|number| (user, 5, 1000 + number)));
    long.push((group, 4, ANYONE));
    long.extend((0..5).map(|number| (some_group, 6, 70_000 + number)));
    long.extend([(mask, 7, ANYONE), (other, 4, ANYONE)]);
    let long = acl(&long);
    for (name, value) in [("acl-short", &short), ("acl-long", &long)] {
        let path = folder.join(name);
        file(&path, 10)?;
        set(&path, "system.posix_acl_access", value)?;
        set(&path, "user.beside", b"an ACL")?;
        let path = folder.join(format!("{name}-directory"));
        fs::create_dir(&path)?;
        set(&path, "system.posix_acl_access", value)?;
        set(&path, "system.posix_acl_default", value)?;
        // Inherit it.
        file(&path.join("inherits"), 1)?;
        fs::create_dir(path.join("inherits-too"))?;
    }
    Ok(())
}

fn flags(folder: &Path) -> Result<()> {
    let all = [
        ("append", IFlags::APPEND),
        ("no-dump", IFlags::NODUMP),
        ("no-atime", IFlags::NOATIME),
        ("immutable", IFlags::IMMUTABLE),
    ];
    for (name, flag) in all {
        let file = file(&folder.join(name), 10)?;
        let Some(before) = where_possible(ioctl_getflags(file.as_fd()))? else { continue };
        where_possible(ioctl_setflags(file.as_fd(), before | flag))?;
    }
    Ok(())
}
