//! Commands on volumes that are not mounted, compared with what the volume was made from and with debugfs.

use std::fs;
use std::process::Command;

use crate::volumes::{Volume, homifs, program};
use serde_json::Value;

#[test]
fn cat_gives_the_bytes_of_the_file_through_links() {
    let Some(volume) = Volume::new() else { return };
    for path in ["/hello", "deep/large", "/deep/link", "deep/er/../large", "/deep/er/empty"] {
        let output = program().args(["cat", &volume.spec(), path]).output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        let original = fs::read(volume.tree().join(path.trim_start_matches('/'))).unwrap();
        assert!(output.stdout == original, "{path} differs");
    }
}

#[test]
fn cat_of_what_is_no_file_says_why() {
    let Some(volume) = Volume::new() else { return };
    for (path, why) in [
        ("/nothing", "/nothing: "),
        ("/hello/below", "/hello/below: "),
        ("/circle", "/circle: too many symbolic links"),
        ("/deep", "/deep: "),
    ] {
        let told = homifs(&["cat", &volume.spec(), path]);
        assert_eq!((told.code, told.err.lines().count()), (1, 1), "{path}: {}", told.err);
        assert!(told.err.contains(why), "{}", told.err);
    }
}

#[test]
fn ls_lists_every_name_below() {
    let Some(volume) = Volume::new() else { return };
    let told = homifs(&["ls", "-R", "-o", "json", &volume.spec()]);
    let json: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(json["version"], 1);
    let mut listed: Vec<&str> =
        json["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            "/circle",
            "/deep",
            "/deep/er",
            "/deep/er/empty",
            "/deep/large",
            "/deep/link",
            "/hello",
            "/lost+found"
        ]
    );
    let told = homifs(&["ls", "-l", &volume.spec(), "/deep"]);
    assert!(told.out.contains("link -> ../deep/large"), "{}", told.out);
    assert!(
        told.out.lines().any(|line| line.starts_with("-rw") && line.contains(" 3000001 ")),
        "{}",
        told.out
    );
}

#[test]
fn stat_agrees_with_what_the_volume_was_made_from() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(volume) = Volume::new() else { return };
    let told = homifs(&["stat", "-o", "json", &volume.spec(), "/deep/large", "/deep/link", "/deep"]);
    let json: Value = serde_json::from_str(&told.out).unwrap();
    for (file, path) in json["files"].as_array().unwrap().iter().zip(["deep/large", "deep/link", "deep"]) {
        let original = fs::symlink_metadata(volume.tree().join(path)).unwrap();
        assert_eq!(file["mode"], format!("{:04o}", original.mode() & 0o7777), "{path}");
        assert_eq!(file["uid"], original.uid(), "{path}");
        assert_eq!(file["modified"][0], original.mtime(), "{path}");
        if !original.is_dir() {
            assert_eq!(file["size_bytes"], original.len(), "{path}");
        }
    }
    assert_eq!(json["files"][1]["target"], "../deep/large");
}

#[test]
fn extents_agree_with_debugfs() {
    let Some(volume) = Volume::new() else { return };
    let blocks = Command::new("debugfs").args(["-R", "blocks /deep/large", &volume.spec()]).output();
    let Ok(blocks) = blocks else {
        eprintln!("skipped: no debugfs on this machine");
        return;
    };
    let expected: Vec<u64> = String::from_utf8(blocks.stdout)
        .unwrap()
        .split_whitespace()
        .map(|block| block.parse().unwrap())
        .collect();
    let told = homifs(&["extents", "-o", "json", "--device", &volume.spec(), "--path", "/deep/large"]);
    let json: Value = serde_json::from_str(&told.out).unwrap();
    let file = &json["files"][0];
    let block = file["block_size_bytes"].as_u64().unwrap();
    let found: Vec<u64> = file["extents"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|extent| {
            let first = extent["physical_bytes"].as_u64().unwrap() / block;
            first..first + extent["length_bytes"].as_u64().unwrap().div_ceil(block)
        })
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);

    let table = homifs(&["extents", "--device", &volume.spec(), "/deep/large"]).out;
    assert!(table.contains(&format!("{}..", expected[0])) && table.contains("last,eof"), "{table}");
}

#[test]
fn info_describes_the_volume() {
    let Some(volume) = Volume::new() else { return };
    let json: Value = serde_json::from_str(&homifs(&["info", "-o", "json", &volume.spec()]).out).unwrap();
    assert_eq!(
        (&json["version"], &json["format"], &json["label"]),
        (&1.into(), &"ext4".into(), &"cli-test".into())
    );
    let table = homifs(&["info", &volume.spec()]).out;
    assert!(table.contains("cli-test") && table.contains("metadata_csum"), "{table}");
}

#[test]
fn what_is_no_volume_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("x.img");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let spec = image.to_str().unwrap();
    let told = homifs(&["info", spec]);
    assert_eq!(told.err.lines().count(), 1, "{}", told.err);
    assert!(told.err.contains("nothing but zeros") && told.err.contains(spec), "{}", told.err);
    assert_ne!(told.code, 0);
}

#[test]
fn partitioned_device_is_listed_by_info_and_read_by_number() {
    let Some(volume) = Volume::new() else { return };
    let disk = volume.folder.path().join("partitioned.img");
    fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let mut bytes = fs::read(&disk).unwrap();
    bytes.extend(fs::read(volume.image()).unwrap());
    // One entry of type 83, from sector 2048 on, 16 MiB long.
    bytes[446 + 4] = 0x83;
    bytes[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&32768_u32.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&disk, bytes).unwrap();
    let disk = disk.to_str().unwrap();
    let json: Value = serde_json::from_str(&homifs(&["info", "-o", "json", disk]).out).unwrap();
    assert_eq!(json["partitions"][0]["holds"], "ext4");
    assert_eq!(homifs(&["cat", "--partition", "1", disk, "/hello"]).out, "hello, world\n");
    assert_eq!(homifs(&["cat", "--offset", "1M", disk, "/hello"]).out, "hello, world\n");
    let told = homifs(&["cat", disk, "/hello"]);
    assert!(told.err.contains("choose a partition with -o partition=N, of 1 (ext4)"), "{}", told.err);
}

#[test]
fn man_pages_and_completions_hold_every_command_and_option() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(homifs(&["man", folder.path().to_str().unwrap()]).code, 0);
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let completions = homifs(&["completions", "bash"]).out;
    for command in ["mount", "umount", "extents", "info", "ls", "cat", "stat", "check"] {
        assert!(page("homifs.1").contains(command), "{command}");
        assert!(completions.contains(command), "{command}");
        assert!(page(&format!("homifs-{command}.1")).starts_with(".ie"), "{command}");
    }
    let mount = page("homifs-mount.1");
    assert!(mount.contains("MOUNT OPTIONS") && mount.contains("read_ahead=SIZE"));
    assert!(homifs(&["mount", "-o", "help"]).out.contains("read_ahead=SIZE"));
    assert!(homifs(&["mount", "--help"]).out.contains("read_ahead=SIZE"));
}

#[test]
fn check_tells_a_verdict_for_each_thing() {
    let told = homifs(&["check", "-o", "json"]);
    let json: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["can_mount"].as_bool().unwrap(), told.code == 0);
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.len() > 8);
    for finding in findings {
        let verdict = finding["verdict"].as_str().unwrap();
        assert!(matches!(verdict, "ok" | "missing" | "failed"), "{finding}");
        assert_eq!(verdict == "ok", finding["advice"] == "", "{finding}");
    }
}
