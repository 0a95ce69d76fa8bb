//! What real programs leave: a repository, a database, a file of `fio`, a tree to copy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Place, file};
use crate::command::{finish, run};
use crate::machine::has_tool;

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("programs")?;
    if has_tool("git") {
        repository(&folder.join("repository"))?;
    }
    if has_tool("sqlite3") {
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) \
                    INSERT INTO numbers SELECT i, hex(i*7919) FROM n;";
        let statement = format!(
            "CREATE TABLE numbers(i INTEGER PRIMARY KEY, text TEXT); {rows} CREATE INDEX t ON numbers(text);"
        );
        run("sqlite3", [&*folder.join("database").to_string_lossy(), &statement])?;
    }
    if has_tool("fio") {
        fio(&folder, &["--rw=randwrite", "--do_verify=0"])?;
    }
    for number in 0..300_u64 {
        let below = folder.join(format!("tree/{}/{}", number % 7, number % 3));
        fs::create_dir_all(&below)?;
        file(&below.join(format!("file-{number}")), number * 531)?;
    }
    Ok(())
}

/// A `fio` job on the file that the volume has for it: writes it, or verifies it.
///
/// # Errors
/// What `fio` says.
pub fn fio(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("fio");
    command.args(["--name=verified", "--filename=fio.data", "--size=8m", "--bs=4k", "--verify=crc32c"]);
    command.args(["--verify_state_save=0", "--verify_fatal=1", "--randseed=7"]).args(arguments);
    finish(command.current_dir(folder))
}

fn repository(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(folder).args(["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]);
        finish(command.args(["-c", "commit.gpgsign=false", "-c", "safe.directory=*"]).args(arguments))
    };
    git(&["init", "--quiet"])?;
    for number in 0..20 {
        fs::write(folder.join(format!("file-{}", number % 5)), format!("content {number}\n").repeat(200))?;
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--message", &format!("change {number}")])?;
    }
    git(&["gc", "--quiet"])?;
    fs::write(folder.join("file-0"), "loose\n")?;
    git(&["commit", "--quiet", "--all", "--message", "loose"])?;
    Ok(())
}
