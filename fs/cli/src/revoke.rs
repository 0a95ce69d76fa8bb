//! `homifs revoke`: takes files back from the clients that read them by queues of their own.

use std::path::Path;

use homifs_fuse::mount_table::Entry;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments::{Format, Revoke};
use crate::failure::Failure;
use crate::{Result, mounts, output};

/// What the daemon answers.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    handles: u64,
    #[serde(default)]
    error: String,
}

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    files: Vec<Revoked>,
}

#[derive(Debug, Serialize)]
struct Revoked {
    path: String,
    handles: u64,
}

pub(crate) fn run(arguments: &Revoke) -> Result {
    let mut files = Vec::with_capacity(arguments.paths.len());
    for path in &arguments.paths {
        let handles = revoke(path)?;
        files.push(Revoked { path: path.to_string_lossy().into_owned(), handles });
    }
    match arguments.output.output {
        Format::Json => println!("{:#}", serde_json::to_value(Report { version: 1, files })?),
        Format::Table => {
            let mut table = output::table();
            table.set_header(["HANDLES", "PATH"]);
            for file in &files {
                table.add_row([file.handles.to_string(), output::name(file.path.as_bytes())]);
            }
            println!("{}", table.trim_fmt());
        }
    }
    Ok(())
}

/// How many clients' handles of a file were revoked.
fn revoke(path: &Path) -> Result<u64> {
    let shown = path.display();
    let whole = path.canonicalize().map_err(|error| Failure::io(&shown, &error))?;
    let mount = mounts::holding(&whole).map_err(|error| Failure::io(&shown, &error))?;
    let Some(mount) = mount.filter(Entry::is_homifs) else {
        return Err(Failure::plain(format!("{shown} is not on a homifs mount; name a file of one")));
    };
    let inside = whole.strip_prefix(&mount.mountpoint).ok().and_then(Path::to_str);
    let inside = inside.ok_or_else(|| {
        Failure::plain(format!("{shown} has a name that is no UTF-8, which a control request cannot tell"))
    })?;
    let request = json!({ "op": "revoke", "path": inside }).to_string();
    let answer = homi_client::control::ask(&mount.mountpoint, &request).map_err(|error| {
        Failure::plain(format!("cannot revoke {shown}: {}", homifs_core::error_chain(&error)))
    })?;
    let answer: Answer = serde_json::from_str(&answer)?;
    if answer.ok {
        Ok(answer.handles)
    } else {
        Err(Failure::plain(format!("cannot revoke {shown}: {}", answer.error)))
    }
}
