//! Tables made by sfdisk and parted, read by us and by `sfdisk -J`, and tables made by an enemy.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use extents_core::{BlockRead, MemoryDevice, ReadError};
use extents_volume::{
    Contents, Format, OpenVolumeError, PartitionTable, Scheme, VolumeOptions, contents, open, partition_table,
};
use proptest::prelude::*;
use tempfile::NamedTempFile;

struct Image(File);

impl BlockRead for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        self.0.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, length))
    }

    fn size(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }
}

fn has(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--version").output().is_ok() || Command::new(tool).arg("-V").output().is_ok();
    if !found {
        eprintln!("skipped: no {tool} on this machine");
    }
    found
}

fn image(mib: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(mib << 20).unwrap();
    file
}

fn run(program: &str, arguments: &[&str], input: &str) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {told}");
    output.stdout
}

/// A loop device with blocks of another size than 512 bytes; sfdisk takes the size from the device.
struct Loop(String);

impl Loop {
    fn new(image: &Path, block: u32) -> Option<Self> {
        let image = image.to_str().unwrap();
        let output = Command::new("losetup").args(["-f", "--show", "-b", &block.to_string(), image]).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Self(String::from_utf8(output.stdout).unwrap().trim().to_owned()))
            }
            other => {
                eprintln!("skipped: no loop device with blocks of {block} bytes: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

fn sfdisk(path: &Path, script: &str) {
    run("sfdisk", &["-q", "--no-reread", "--no-tell-kernel", path.to_str().unwrap()], script);
}

fn read(path: &Path) -> Option<PartitionTable> {
    partition_table(&Image(File::open(path).unwrap()), None).unwrap()
}

/// Number, first byte and size in bytes of every partition, as sfdisk sees them.
fn as_sfdisk_sees(path: &Path, sector_size: u32) -> Vec<(u32, u64, u64)> {
    let path = path.to_str().unwrap();
    let json = run("sfdisk", &["-J", path], "");
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let partitions = json["partitiontable"]["partitions"].as_array().unwrap();
    let bytes = |value: &serde_json::Value| value.as_u64().unwrap() * u64::from(sector_size);
    let parse = |partition: &serde_json::Value| {
        let node = partition["node"].as_str().unwrap().strip_prefix(path).unwrap();
        (node.trim_start_matches('p').parse().unwrap(), bytes(&partition["start"]), bytes(&partition["size"]))
    };
    partitions.iter().map(parse).collect()
}

fn as_we_see(table: &PartitionTable) -> Vec<(u32, u64, u64)> {
    table.partitions.iter().map(|partition| (partition.number, partition.start, partition.size)).collect()
}

const MBR_WITH_LOGICAL: &str = "label: dos\n\
    1 : size=8MiB, type=83\n\
    2 : size=8MiB, type=82\n\
    4 : type=f\n\
    5 : size=4MiB, type=83\n\
    6 : size=4MiB, type=7\n\
    7 : size=2MiB, type=8e\n\
    8 : type=83\n";
const GPT: &str = "label: gpt\n\
    1 : size=4MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=\"EFI\"\n\
    3 : size=8MiB, name=\"root of Äll\"\n\
    7 : type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n";

#[test]
fn mbr_with_logical_partitions_agrees_with_sfdisk() {
    if !has("sfdisk") {
        return;
    }
    let image = image(64);
    sfdisk(image.path(), MBR_WITH_LOGICAL);
    let table = read(image.path()).unwrap();
    assert_eq!((table.scheme, table.sector_size), (Scheme::Mbr, 512));
    assert_eq!(as_we_see(&table), as_sfdisk_sees(image.path(), 512));
    let kinds: Vec<_> = table.partitions.iter().map(|partition| &*partition.kind).collect();
    assert_eq!(kinds, ["Linux", "Linux swap", "extended", "Linux", "NTFS or exFAT", "Linux LVM", "Linux"]);
}

#[test]
fn gpt_agrees_with_sfdisk_for_both_sector_sizes() {
    if !has("sfdisk") {
        return;
    }
    for sector_size in [512, 4096] {
        let image = image(64);
        let Some(disk) = Loop::new(image.path(), sector_size) else { return };
        sfdisk(disk.0.as_ref(), GPT);
        let table = read(image.path()).unwrap();
        assert_eq!((table.scheme, table.sector_size, table.damage), (Scheme::Gpt, sector_size, None));
        assert_eq!(as_we_see(&table), as_sfdisk_sees(disk.0.as_ref(), sector_size));
        let names: Vec<_> = table.partitions.iter().map(|partition| &*partition.name).collect();
        assert_eq!(names, ["EFI", "root of Äll", ""]);
    }
}

#[test]
fn gpt_with_more_than_128_entries_agrees_with_sfdisk() {
    if !has("sfdisk") {
        return;
    }
    let image = image(512);
    let mut script = String::from("label: gpt\ntable-length: 512\n");
    for number in 1..=300 {
        script.push_str(&format!("{number} : size=256KiB\n"));
    }
    sfdisk(image.path(), &script);
    assert_eq!(as_we_see(&read(image.path()).unwrap()), as_sfdisk_sees(image.path(), 512));
}

#[test]
fn parted_tables_agree_with_sfdisk() {
    if !has("parted") || !has("sfdisk") {
        return;
    }
    for label in ["gpt", "msdos"] {
        let image = image(64);
        let path = image.path().to_str().unwrap();
        let make = |arguments: &[&str]| run("parted", &[&["-s", path], arguments].concat(), "");
        make(&["mklabel", label]);
        make(&["mkpart", "primary", "ext4", "1MiB", "20MiB"]);
        if label == "msdos" {
            make(&["mkpart", "extended", "20MiB", "60MiB"]);
            make(&["mkpart", "logical", "xfs", "21MiB", "40MiB"]);
            make(&["mkpart", "logical", "xfs", "41MiB", "60MiB"]);
        }
        assert_eq!(as_we_see(&read(image.path()).unwrap()), as_sfdisk_sees(image.path(), 512), "{label}");
    }
}

#[test]
fn gpt_with_damaged_primary_is_read_from_its_backup() {
    if !has("sfdisk") {
        return;
    }
    // The header itself; one of its entries, which only the entries' checksum covers.
    for place in [512 + 60, 1024 + 40] {
        let image = image(64);
        sfdisk(image.path(), GPT);
        let before = as_we_see(&read(image.path()).unwrap());
        image.as_file().write_all_at(&[0x5a], place).unwrap();
        let table = read(image.path()).unwrap();
        assert_eq!(as_we_see(&table), before);
        assert!(table.damage.is_some(), "byte {place}");
    }
}

#[test]
fn mbr_of_a_4096_byte_disk_is_understood_by_what_its_partitions_hold() {
    if !has("sfdisk") || !has("mkfs.ext4") {
        return;
    }
    let image = image(64);
    let Some(disk) = Loop::new(image.path(), 4096) else { return };
    sfdisk(disk.0.as_ref(), "label: dos\n1 : start=2048, type=83\n");
    drop(disk);
    make_ext4(image.path(), 8 << 20, 40);
    let table = read(image.path()).unwrap();
    assert_eq!(table.sector_size, 4096);
    assert_eq!(table.get(1).unwrap().contents, Contents::Ext4);
}

fn make_ext4(path: &Path, offset: u64, mib: u64) {
    let extended = format!("offset={offset}");
    run("mkfs.ext4", &["-q", "-F", "-E", &extended, path.to_str().unwrap(), &format!("{mib}M")], "");
}

fn options(change: impl FnOnce(&mut VolumeOptions)) -> VolumeOptions {
    let mut options = VolumeOptions::default();
    change(&mut options);
    options
}

fn device(path: &Path) -> Arc<dyn BlockRead> {
    Arc::new(Image(File::open(path).unwrap()))
}

#[test]
fn open_with_a_table_and_no_partition_lists_what_is_there() {
    if !has("sfdisk") || !has("mkfs.ext4") {
        return;
    }
    let image = image(64);
    sfdisk(image.path(), "label: gpt\n1 : size=8MiB, type=swap\n2 : name=\"root\"\n");
    make_ext4(image.path(), 9 << 20, 40);
    let error = open(device(image.path()), &VolumeOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has a GPT partition table, not a volume: choose a partition with -o partition=N, of 1 (zeros), 2 (ext4, \"root\")"
    );
    assert_eq!(error.table().unwrap().partitions.len(), 2);

    let volume = open(device(image.path()), &options(|options| options.partition = Some(2))).unwrap();
    assert_eq!((volume.start, volume.fs.info().format), (9 << 20, "ext4"));
    assert_eq!(volume.fs.info().size, 40 << 20);
    let same = open(device(image.path()), &options(|options| options.offset = Some(9 << 20))).unwrap();
    assert_eq!(same.fs.info().uuid, volume.fs.info().uuid);

    let told = |change: fn(&mut VolumeOptions)| {
        open(device(image.path()), &options(change)).unwrap_err().to_string()
    };
    assert!(
        told(|o| o.partition = Some(3)).starts_with("it has no partition 3: its GPT table has 1 (zeros), 2")
    );
    assert!(told(|o| o.partition = Some(1)).contains("in its partition 1: it holds nothing but zeros"));
    assert!(told(|o| o.offset = Some(65 << 20)).contains("give another offset"));
    assert!(
        told(|o| (o.partition, o.format) = (Some(2), Some(Format::Xfs)))
            .contains("no XFS volume begins in its partition 2")
    );
}

#[test]
fn open_partition_past_the_end_of_a_cut_image_says_so() {
    if !has("sfdisk") {
        return;
    }
    let image = image(64);
    sfdisk(image.path(), "label: dos\n1 : size=8MiB\n2 : type=83\n");
    image.as_file().set_len(32 << 20).unwrap();
    let error = open(device(image.path()), &options(|options| options.partition = Some(2))).unwrap_err();
    assert!(matches!(error, OpenVolumeError::PartitionOutside { number: 2, .. }), "{error}");
}

#[test]
fn volume_at_the_first_byte_wins_over_a_stray_table() {
    if !has("sfdisk") || !has("mkfs.ext4") {
        return;
    }
    let image = image(64);
    make_ext4(image.path(), 0, 40);
    sfdisk(image.path(), "label: dos\n1 : start=100000, type=83\n");
    assert!(read(image.path()).is_some());
    assert_eq!(open(device(image.path()), &VolumeOptions::default()).unwrap().start, 0);
}

#[test]
fn other_contents_are_named() {
    let made: &[(&str, &[&str], &str)] = &[
        ("mkswap", &[], "swap"),
        ("mkfs.btrfs", &["-q", "-f"], "btrfs"),
        ("mkfs.vfat", &[], "vfat"),
        ("mkfs.xfs", &["-q", "-f"], "xfs"),
        ("mkfs.ext2", &["-q", "-F"], "ext4"),
    ];
    for (program, arguments, name) in made {
        if !has(program) {
            continue;
        }
        let image = image(512);
        run(program, &[*arguments, &[image.path().to_str().unwrap()]].concat(), "");
        let device = device(image.path());
        assert_eq!(contents(&*device).unwrap().name(), *name);
        // The boot sector of a FAT volume ends as an MBR does.
        assert_eq!(partition_table(&*device, None).unwrap(), None, "{program}");
        let opened = open(device, &VolumeOptions::default());
        if matches!(*name, "xfs" | "ext4") {
            opened.unwrap();
        } else {
            assert!(matches!(opened.unwrap_err(), OpenVolumeError::NotAVolume { .. }));
        }
    }
}

#[test]
fn devices_with_nothing_on_them_are_told_apart() {
    let told = |bytes: Vec<u8>| {
        open(Arc::new(MemoryDevice(bytes)), &VolumeOptions::default()).unwrap_err().to_string()
    };
    let beginning = "no ext2, ext3, ext4 or XFS volume begins at its first byte: it holds ";
    assert_eq!(told(Vec::new()), format!("{beginning}no data at all"));
    assert_eq!(told(vec![0; 1 << 20]), format!("{beginning}nothing but zeros where a volume would begin"));
    assert_eq!(told(b"#!/bin/sh\n".repeat(9)), format!("{beginning}nothing that is known here"));
    assert_eq!(
        told(b"QFI\xfb\0\0\0\x03".repeat(9000)),
        format!("{beginning}a qcow2 image; make a raw image of it (qemu-img convert -O raw)")
    );
}

/// An MBR whose extended partition chains to itself.
#[test]
fn chain_of_boot_records_in_a_circle_ends() {
    let mut disk = vec![0; 1 << 20];
    let mut entry = |at: usize, kind: u8, start: u32, sectors: u32| {
        disk[at + 4] = kind;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    };
    entry(446, 0x0f, 8, 1000);
    entry(8 * 512 + 446, 0x83, 1, 10);
    entry(8 * 512 + 462, 0x05, 16, 1000);
    entry(24 * 512 + 446, 0x83, u32::MAX, u32::MAX);
    entry(24 * 512 + 462, 0x05, 0, u32::MAX);
    for sector in [0, 8, 24] {
        disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }
    let table = partition_table(&MemoryDevice(disk), None).unwrap().unwrap();
    assert_eq!(table.partitions.len(), 1 + 128);
}

/// A header whose checksum is right and whose numbers are not.
#[test]
fn gpt_header_with_huge_numbers_takes_no_memory_and_no_panic() {
    if !has("sfdisk") {
        return;
    }
    let image = image(64);
    sfdisk(image.path(), GPT);
    let original = std::fs::read(image.path()).unwrap();
    // Number of entries, size of an entry, place of the entries.
    for (field, value) in [(80, u32::MAX), (84, 64), (84, u32::MAX), (84, 0), (76, u32::MAX), (80, 0)] {
        let mut disk = original.clone();
        let backup = disk.len() - 512;
        for header in [512, backup] {
            disk[header + field..header + field + 4].copy_from_slice(&value.to_le_bytes());
            disk[header + 16..header + 20].fill(0);
            let sum = crc32(&disk[header..header + 92]);
            disk[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
        }
        let table = partition_table(&MemoryDevice(disk), None).unwrap();
        assert!(table.is_none_or(|table| table.partitions.is_empty()), "field {field} = {value}");
    }
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

proptest! {
    #[test]
    fn any_boot_sectors_are_read_without_panic(
        mut disk in prop::collection::vec(any::<u8>(), 0..20_000),
        kinds in prop::collection::vec(prop::sample::select(vec![0_u8, 5, 0xf, 0x83, 0xee]), 8),
    ) {
        for (sector, entries) in kinds.chunks(4).enumerate() {
            for (place, kind) in entries.iter().enumerate() {
                if let Some(entry) = disk.get_mut(sector * 512 + 446 + place * 16..).filter(|rest| rest.len() > 80) {
                    entry[0] = 0;
                    entry[4] = *kind;
                    entry[10..12].fill(0);
                }
            }
            if let Some(end) = disk.get_mut(sector * 512 + 510..sector * 512 + 512) {
                end.copy_from_slice(&[0x55, 0xaa]);
            }
        }
        let device = MemoryDevice(disk);
        let table = partition_table(&device, None).unwrap();
        let _ = table.map(|table| table.summary());
        let _ = open(Arc::new(device), &VolumeOptions { partition: Some(1), ..VolumeOptions::default() });
    }
}
