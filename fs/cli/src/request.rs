//! Control requests about a file that somebody named by a path of theirs.

use std::path::{Path, PathBuf};

use homifs_fuse::mount_table::Entry;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{Result, mounts};

/// A file on a mount of ours.
#[derive(Debug)]
pub(crate) struct Mounted {
    mountpoint: PathBuf,
    inside: PathBuf,
}

/// The file as its mount knows it; `None` where it is on no mount of ours.
pub(crate) fn mounted(path: &Path) -> Result<Option<Mounted>> {
    let shown = path.display();
    let whole = path.canonicalize().map_err(|error| Failure::io(&shown, &error))?;
    let mount = mounts::holding(&whole).map_err(|error| Failure::io(&shown, &error))?;
    let Some(Entry { mountpoint, .. }) = mount.filter(Entry::is_homifs) else { return Ok(None) };
    let inside = whole.strip_prefix(&mountpoint).unwrap_or(&whole).to_owned();
    Ok(Some(Mounted { mountpoint, inside }))
}

/// What the daemon answers to `op` about a file.
pub(crate) fn about(file: &Mounted, op: &str, path: &Path) -> Result<Value> {
    let shown = path.display();
    let inside = file.inside.to_str().ok_or_else(|| {
        Failure::plain(format!("{shown} has a name that is no UTF-8, which a control request cannot tell"))
    })?;
    let request = json!({ "op": op, "path": inside }).to_string();
    let cannot = |why: &str| Failure::plain(format!("cannot {} {shown}: {why}", verb(op)));
    let answer = homi_client::control::ask(&file.mountpoint, &request)
        .map_err(|error| cannot(&homifs_core::error_chain(&error)))?;
    let answer: Value = serde_json::from_str(&answer)?;
    if answer["ok"].as_bool() == Some(true) {
        Ok(answer)
    } else {
        Err(cannot(answer["error"].as_str().unwrap_or("the daemon gave no reason")))
    }
}

fn verb(op: &str) -> &str {
    if op == "file" { "ask about" } else { op }
}
