//! Volumes that must not be read, or only when asked for, and what is said about them.

mod support;

use std::fs::OpenOptions as FileOptions;
use std::os::unix::fs::FileExt;

use extents_core::{Error, FeatureClass, FileSystem, Ino, MemoryDevice};
use extents_xfs::{OpenOptions, Xfs};
use support::{Image, can_make, can_mount, compare, run};

/// Where the superblock keeps its feature words.
const COMPAT: usize = 208;
const RO_COMPAT: usize = 212;
const INCOMPAT: usize = 216;
const LOG_INCOMPAT: usize = 220;

/// Writes fields of the superblock with xfs_db, which sets the checksum right.
fn write_superblock(image: &Image, fields: &[&str]) {
    let mut arguments = vec!["-x".to_owned(), "-c".to_owned(), "sb 0".to_owned()];
    for field in fields {
        arguments.extend(["-c".to_owned(), format!("write {field}")]);
    }
    arguments.push(image.path().to_str().unwrap().to_owned());
    run("xfs_db", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Writes a 32-bit field of the superblock that xfs_db would not write, and sets the checksum right.
fn patch_superblock(image: &Image, fields: &[(usize, u32)]) {
    const CRC: usize = 224;
    let file = FileOptions::new().read(true).write(true).open(image.path()).unwrap();
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 0).unwrap();
    for &(place, value) in fields {
        sector[place..place + 4].copy_from_slice(&value.to_be_bytes());
    }
    sector[CRC..CRC + 4].fill(0);
    let crc = crc32c::crc32c(&sector);
    sector[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&sector, 0).unwrap();
}

fn refusal(image: &Image) -> Error {
    image.try_open(&OpenOptions::default()).unwrap_err()
}

#[test]
fn volume_with_unknown_incompatible_feature_is_refused_by_name() {
    if !can_make() {
        return;
    }
    for (bit, name) in [(8, "metadir"), (9, "zoned"), (21, "unknown incompat bit 21")] {
        let image = Image::make("320M", &[]);
        patch_superblock(&image, &[(INCOMPAT, 0x3 | 1 << bit)]);
        let error = refusal(&image);
        assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(name), "{error}");
    }
}

#[test]
fn volume_with_unknown_compatible_features_is_opened_and_names_them() {
    if !can_make() {
        return;
    }
    let image = Image::make("320M", &[]);
    patch_superblock(&image, &[(COMPAT, 4), (RO_COMPAT, 0x8000_0005), (LOG_INCOMPAT, 1)]);
    let volume = image.open();
    let has = |name: &str, class| {
        volume.info().features.iter().any(|feature| feature.name == name && feature.class == class)
    };
    let all = &volume.info().features;
    assert!(has("unknown ro_compat bit 31", FeatureClass::ReadOnlyCompatible), "{all:?}");
    assert!(has("unknown compat bit 2", FeatureClass::Compatible));
    assert!(has("log_xattrs", FeatureClass::Log));
}

#[test]
fn volume_that_needs_repair_is_refused_with_advice() {
    if !can_make() {
        return;
    }
    let image = Image::make("320M", &[]);
    write_superblock(&image, &["features_incompat 0x13"]);
    let error = refusal(&image);
    assert!(error.to_string().contains("run xfs_repair"), "{error}");
}

#[test]
fn volume_that_mkfs_left_unfinished_is_refused() {
    if !can_make() {
        return;
    }
    let image = Image::make("320M", &[]);
    write_superblock(&image, &["inprogress 1"]);
    let error = refusal(&image);
    assert!(error.to_string().contains("unfinished"), "{error}");
}

#[test]
fn superblock_with_a_flipped_bit_is_refused() {
    if !can_make() {
        return;
    }
    let image = Image::make("320M", &[]);
    let file = FileOptions::new().read(true).write(true).open(image.path()).unwrap();
    file.write_all_at(b"!", 110).unwrap();
    let error = refusal(&image);
    assert!(matches!(error, Error::Corrupt(_)) && error.to_string().contains("checksum"), "{error}");
}

#[test]
fn device_shorter_than_the_volume_is_refused() {
    if !can_make() {
        return;
    }
    let image = Image::make("320M", &[]);
    let file = FileOptions::new().write(true).open(image.path()).unwrap();
    file.set_len(300 << 20).unwrap();
    let error = refusal(&image);
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn device_without_a_volume_is_not_this_format() {
    for size in [0, 100, 511, 512, 4096, 1 << 20] {
        let device = MemoryDevice(vec![0; size]);
        assert!(!Xfs::probe(&device).unwrap());
        assert!(matches!(Xfs::open(device, &OpenOptions::default()), Err(Error::NotThisFormat("XFS"))));
    }
}

#[test]
fn volume_with_dirty_log_is_refused_unless_norecovery_is_asked_for() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &[]);
    image.fill("mkdir before; for i in $(seq 100); do echo $i > before/$i; done");
    {
        let mount = image.mount("rw");
        for number in 0..50 {
            std::fs::write(mount.path().join(format!("after-{number}")), b"later").unwrap();
        }
        // What is in the log and in files goes to the device; then nothing more does.
        run("xfs_io", &["-x", "-c", "shutdown -f", mount.path().to_str().unwrap()]);
    }
    let error = refusal(&image);
    let text = error.to_string();
    assert!(matches!(error, Error::NeedsRecovery(_)), "{error}");
    assert!(text.contains("norecovery") && text.contains("mount"), "{text}");

    let volume = image.try_open(&OpenOptions { norecovery: true, ..OpenOptions::default() }).unwrap();
    assert!(volume.info().recovery.contains("left out"), "{}", volume.info().recovery);
    let mount = image.mount("ro,norecovery");
    let compared = compare::tree(&volume, image.path(), mount.path());
    assert!(compared.inodes >= 101, "{compared:?}");
    let (ours, theirs) = (volume.usage().unwrap(), support::ioctls::statfs(mount.path()));
    assert_eq!((ours.blocks, ours.free), (theirs.blocks, theirs.free));
    assert_eq!((ours.files, ours.files_free), (theirs.files, theirs.files_free));
}

#[test]
fn volume_whose_uuid_was_changed_is_read_by_its_metadata_uuid() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &[]);
    image.fill("mkdir a; echo text > a/file; ln -s $(head -c 800 /dev/zero | tr '\\0' x) link");
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    run("xfs_admin", &["-U", uuid, image.path().to_str().unwrap()]);
    let mount = image.mount("ro");
    let volume = image.open();
    assert_eq!(volume.info().uuid[..4], [1, 0x23, 0x45, 0x67]);
    assert!(volume.info().features.iter().any(|feature| feature.name == "meta_uuid"));
    assert_eq!(compare::tree(&volume, image.path(), mount.path()).inodes, 3);
}

#[test]
fn file_on_the_realtime_device_has_metadata_but_no_map() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &[]);
    image.fill("echo text > file");
    let ino = image.open().lookup(image.open().root(), b"file").unwrap().unwrap();
    let path = image.path().to_str().unwrap();
    run("xfs_db", &["-x", "-c", &format!("inode {ino}"), "-c", "write core.realtime 1", path]);
    let volume = image.open();
    assert_eq!(volume.metadata(ino).unwrap().size, 5);
    let error = volume.extents(ino).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains("realtime"), "{error}");
}

#[test]
fn question_about_the_wrong_kind_of_inode_says_so() {
    if !can_mount() {
        return;
    }
    let image = Image::make("320M", &[]);
    image.fill("echo text > file");
    let volume = image.open();
    let root = volume.root();
    let file = volume.lookup(root, b"file").unwrap().unwrap();
    assert!(matches!(volume.read_link(root), Err(Error::NotASymlink(ino)) if ino == root));
    assert!(matches!(volume.lookup(file, b"x"), Err(Error::NotADirectory(ino)) if ino == file));
    assert!(matches!(volume.metadata(Ino(u64::MAX)), Err(Error::NoSuchInode(_))));
    assert!(volume.extents(root).unwrap().is_empty());
}
