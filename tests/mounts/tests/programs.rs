//! Real programs on the mount.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use mounts::{HomifsMount, image_of};
use oracle::command::{finish, run};
use oracle::{KernelMount, machine, recipe, skip_if};

const VOLUMES: [&str; 2] = ["ext4-programs", "xfs-programs"];

fn without(tools: &[&str]) -> Option<String> {
    let missing =
        || tools.iter().find(|tool| !machine::has_tool(tool)).map(|tool| format!("{tool} is not installed"));
    machine::cannot_mount_fuse().or_else(missing)
}

/// Runs a script in the folder of the programs, on both mounts, and expects the same output.
fn same_output(volume: &str, folder: &str, script: &str) -> Result<String> {
    let (image, format) = image_of(volume)?;
    let (kernel, homifs) = (KernelMount::read_only(&image, format)?, HomifsMount::new(&image, "")?);
    let [expected, found] = [kernel.path(), homifs.path()].map(|root| {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(root.join(folder));
        finish(command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0"))
    });
    let (expected, found) = (expected?, found?);
    assert!(!expected.is_empty(), "nothing is compared");
    assert!(expected == found, "{volume}: {script} gives {} and {} bytes", expected.len(), found.len());
    Ok(found)
}

#[test]
fn git_log_and_fsck_in_a_repository() -> Result<()> {
    skip_if!(without(&["git"]));
    for volume in VOLUMES {
        let git = "git -c safe.directory='*'";
        let log = same_output(volume, "programs/repository", &format!("{git} log --stat --format='%H %s'"))?;
        assert_eq!(log.matches("change ").count(), 20);
        same_output(volume, "programs/repository", &format!("{git} fsck --full --strict 2>&1; echo done"))?;
        same_output(volume, "programs/repository", &format!("{git} grep -c content HEAD"))?;
    }
    Ok(())
}

#[test]
fn sqlite_opens_an_immutable_database() -> Result<()> {
    skip_if!(without(&["sqlite3"]));
    for volume in VOLUMES {
        let query = "SELECT count(*), sum(i), max(text) FROM numbers; PRAGMA integrity_check;";
        let answer = same_output(
            volume,
            "programs",
            &format!("sqlite3 \"file:$PWD/database?immutable=1\" '{query}'"),
        )?;
        assert!(answer.starts_with("20000|200010000|") && answer.ends_with("ok\n"), "{answer}");
    }
    Ok(())
}

#[test]
fn fio_verifies_what_the_kernel_wrote() -> Result<()> {
    skip_if!(without(&["fio"]));
    for volume in VOLUMES {
        let (image, _) = image_of(volume)?;
        let homifs = HomifsMount::new(&image, "")?;
        let folder = homifs.join("programs");
        for engine in [
            &["--ioengine=psync"][..],
            &["--ioengine=libaio", "--iodepth=32", "--direct=1"],
            &["--ioengine=mmap"],
        ] {
            let arguments = [&["--rw=read", "--readonly"], engine].concat();
            recipe::fio(&folder, &arguments)?;
        }
    }
    Ok(())
}

#[test]
fn rsync_copies_names_links_times_attributes_and_acls() -> Result<()> {
    skip_if!(without(&["rsync"]));
    for volume in ["ext4-default", "xfs-default"] {
        let (image, format) = image_of(volume)?;
        let (kernel, homifs) = (KernelMount::read_only(&image, format)?, HomifsMount::new(&image, "")?);
        let target = tempfile::tempdir()?;
        // Files of terabytes that are all hole take rsync hours, by whichever mount.
        let filters = ["-aHAX", "--numeric-ids", "--exclude=/holes/data-at-*", "--exclude=/00-*"];
        let from = |root: &Path| format!("{}/", root.display());
        let to = target.path().to_string_lossy().into_owned();
        // What the target cannot store (values of 64 KiB, times of other centuries) is left out of the comparison by
        // copying what both have.
        let folders = ["links", "special", "inline", "directories"];
        for folder in folders {
            run(
                "rsync",
                filters.iter().copied().chain([&*from(&homifs.join(folder)), &format!("{to}/{folder}")]),
            )?;
            let again = ["--dry-run", "--itemize-changes", "--checksum", "--delete"];
            let all = filters.iter().chain(&again).copied();
            let changes =
                run("rsync", all.chain([&*from(&kernel.path().join(folder)), &format!("{to}/{folder}")]))?;
            assert_eq!(changes, "", "{volume}/{folder}: the copy is not what the kernel shows");
        }
    }
    Ok(())
}

#[test]
fn tar_gives_the_same_archive_as_from_the_kernels_mount() -> Result<()> {
    skip_if!(without(&["tar", "md5sum"]));
    for (volume, folder) in [
        ("ext4-default", "."),
        ("xfs-default", "."),
        ("ext4-programs", "programs"),
        ("xfs-programs", "programs"),
    ] {
        let exclude = "--exclude='./holes/data-at-*' --warning=no-file-ignored";
        same_output(
            volume,
            folder,
            &format!(
                "tar --create --sort=name --xattrs --acls --numeric-owner {exclude} --file=- . | md5sum"
            ),
        )?;
    }
    Ok(())
}

#[test]
fn find_lists_the_same() -> Result<()> {
    skip_if!(without(&["find"]));
    for volume in ["ext4-default", "xfs-default", "ext4-programs"] {
        let list = same_output(volume, ".", "find . -ls | tr -s ' ' | sort")?;
        assert!(list.lines().count() > 300);
    }
    Ok(())
}

#[test]
fn md5sum_of_everything_by_sixteen_readers() -> Result<()> {
    skip_if!(without(&["find", "md5sum", "xargs"]));
    for volume in ["ext4-default", "xfs-default", "ext4-programs", "xfs-programs"] {
        let list = same_output(
            volume,
            ".",
            "find . -path './directories/00*' -prune -o -type f -size -64M -print0 | xargs -0 -P 16 -n 20 md5sum | sort",
        )?;
        assert!(list.lines().count() > 300);
    }
    Ok(())
}
