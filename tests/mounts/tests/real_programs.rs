//! Programs that people use, on writable mounts; the long form of these is `tests/programs/run`.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mounts::{FreshVolume, HomifsMount};
use oracle::command::{finish, run};
use oracle::{Format, KernelMount, machine, skip_if};
use rustix::process::Signal;

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];
const READS: [&str; 2] = ["reads=auto", "reads=engine"];

fn without(tools: &[&str]) -> Option<String> {
    let missing =
        || tools.iter().find(|tool| !machine::has_tool(tool)).map(|tool| format!("{tool} is not installed"));
    machine::cannot_mount_fuse().or_else(missing)
}

fn script(root: &Path, script: &str) -> Result<String> {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(root);
    // Nothing of whoever runs the tests decides what git does.
    command.env("LC_ALL", "C").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    finish(&mut command)
}

/// A program that lies beside the command for the long form.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs").join(name)
}

#[test]
fn repository_made_by_git_on_the_mount_is_whole_to_the_kernel() -> Result<()> {
    skip_if!(without(&["git"]));
    let make = r#"
        git init -q repository && cd repository
        git config user.name test && git config user.email test@localhost
        for round in $(seq 10); do
            mkdir -p folder-$round && seq $((round * 1000)) > folder-$round/numbers
            [ $round -lt 3 ] || git mv folder-$((round - 2))/numbers moved-$round
            git add . && git commit -qm "round $round"
        done
        git gc -q --aggressive --prune=now
        git clone -q --no-local . ../clone
    "#;
    let look = "
        for place in repository clone; do
            git -c safe.directory='*' -C $place fsck --full --strict
            git -c safe.directory='*' -C $place log --stat --format='%H %s'
            git -c safe.directory='*' -C $place diff --stat HEAD
        done";
    for format in FORMATS {
        for reads in READS {
            let volume = FreshVolume::new(format)?;
            let mount = volume.mount(reads)?;
            script(mount.path(), make)?;
            let seen = script(mount.path(), look)?;
            assert_eq!(seen.matches("round 7").count(), 2, "{format:?} {reads}");
            volume.unmount_and_check(mount)?;
            let kernel = KernelMount::with_options(&volume.image, format, "rw")?;
            assert_eq!(script(kernel.path(), look)?, seen, "{format:?} {reads}");
        }
    }
    Ok(())
}

#[test]
fn tree_copied_twice_by_rsync_is_the_same() -> Result<()> {
    skip_if!(without(&["rsync"]));
    let make = "
        mkdir -p tree/a tree/b && for i in $(seq 200); do head -c $((i * 97)) /dev/urandom > tree/a/$i; done
        ln tree/a/1 tree/b/hard && ln -s ../a/2 tree/b/link && truncate -s 3M tree/b/sparse && echo end >> tree/b/sparse
        setfattr -n user.key -v value tree/a/3 && chown 1000:1000 tree/a/4 && chmod 4755 tree/a/5";
    let change = "
        rm -r tree/a/1? && mv tree/b tree/c && for i in 20 30 40; do echo more >> tree/a/$i; done && mkdir tree/d";
    for format in FORMATS {
        for reads in READS {
            let source = tempfile::tempdir()?;
            script(source.path(), make)?;
            let volume = FreshVolume::new(format)?;
            let mount = volume.mount(reads)?;
            let arguments = ["-aHXSA", "--delete"].map(str::to_owned);
            let places =
                [format!("{}/tree/", source.path().display()), format!("{}/tree/", mount.path().display())];
            let copy = || run("rsync", arguments.iter().chain(&places));
            let compare = |root: &Path| -> Result<()> {
                run(
                    "diff",
                    ["-r", "--no-dereference", &places[0]]
                        .map(Path::new)
                        .into_iter()
                        .chain([&*root.join("tree")]),
                )?;
                let listing = "cd tree && find . -not -type d -printf '%P %y %m %U %G %n %s %l\\n' | sort";
                ensure!(
                    script(root, listing)? == script(source.path(), listing)?,
                    "{format:?} {reads}: attributes"
                );
                Ok(())
            };
            copy()?;
            compare(mount.path())?;
            script(source.path(), change)?;
            copy()?;
            compare(mount.path())?;
            let third =
                run("rsync", arguments.iter().map(String::as_str).chain(["-ci", &places[0], &places[1]]))?;
            assert_eq!(third, "", "{format:?} {reads}: nothing was left to do");
            volume.unmount_and_check(mount)?;
            compare(KernelMount::with_options(&volume.image, format, "rw")?.path())?;
        }
    }
    Ok(())
}

/// Mounts as soon as the kernel has let go of the device of a daemon that was killed.
fn mount_again(volume: &FreshVolume, options: &str) -> Result<HomifsMount> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match volume.mount(options) {
            Err(_) if Instant::now() < until => sleep(Duration::from_millis(100)),
            mounted => return mounted,
        }
    }
}

#[test]
fn rows_that_sqlite_acknowledged_are_there_after_the_daemon_was_killed() -> Result<()> {
    skip_if!(without(&["sqlite3", "python3"]));
    for format in FORMATS {
        for reads in READS {
            let volume = FreshVolume::new(format)?;
            let mut mount = volume.mount(reads)?;
            let beside = tempfile::tempdir()?;
            let sql = |mount: &HomifsMount, sql: &str| {
                run("sqlite3", [mount.join("base").as_os_str(), sql.as_ref()])
            };
            sql(&mount, "PRAGMA journal_mode = WAL; CREATE TABLE t (writer, number, filling)")?;
            let noted = |writer: usize| beside.path().join(writer.to_string());
            let write = |writer: usize| -> Result<Child> {
                let mut command = Command::new("python3");
                command.arg(program("sqlite-writer.py")).arg(mount.join("base"));
                command.args([&writer.to_string(), "1"]).stdout(File::create(noted(writer))?);
                Ok(command.stderr(Stdio::null()).spawn()?)
            };
            let mut writers = (0..3).map(write).collect::<Result<Vec<_>>>()?;
            let until = Instant::now() + Duration::from_secs(20);
            // One is enough: SQLite's locks are not fair to whoever waits.
            while (0..3).all(|writer| fs::metadata(noted(writer)).is_ok_and(|noted| noted.len() == 0)) {
                ensure!(Instant::now() < until, "the writers do not get on");
                sleep(Duration::from_millis(10));
            }
            sleep(Duration::from_millis(300));
            mount.daemon().signal(Signal::KILL)?;
            mount.daemon().wait()?;
            for writer in &mut writers {
                ensure!(!writer.wait()?.success(), "a writer did not notice that the mount is gone");
            }
            run("umount", [mount.path()])?;
            drop(mount);
            let mount = mount_again(&volume, reads)?;
            assert_eq!(sql(&mount, "PRAGMA integrity_check")?.trim(), "ok", "{format:?} {reads}");
            for writer in 0..3 {
                let rows = sql(&mount, &format!("SELECT number FROM t WHERE writer = {writer}"))?;
                let rows: BTreeSet<&str> = rows.lines().collect();
                let acknowledged = fs::read_to_string(noted(writer))?;
                let lost = acknowledged.lines().find(|number| !rows.contains(number));
                assert_eq!(lost, None, "{format:?} {reads}: writer {writer}, of {}", rows.len());
            }
            volume.unmount_and_check(mount)?;
        }
    }
    Ok(())
}

#[test]
fn records_read_while_a_writer_appends_are_whole() -> Result<()> {
    skip_if!(without(&["python3"]));
    for format in FORMATS {
        for reads in READS {
            let volume = FreshVolume::new(format)?;
            let mount = volume.mount(reads)?;
            let loader = program("loader.py");
            let said = finish(Command::new("python3").arg(&loader).arg(mount.path()).arg("1"));
            let said = said.with_context(|| format!("{format:?} {reads}"))?;
            ensure!(said.contains("all whole"), "{said}");
            volume.unmount(mount)?;
            let mount = volume.mount(reads)?;
            finish(Command::new("python3").arg(&loader).arg("--verify").arg(mount.path()))?;
            volume.unmount_and_check(mount)?;
        }
    }
    Ok(())
}
