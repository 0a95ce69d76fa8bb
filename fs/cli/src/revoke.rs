//! `homifs revoke`: takes files back from the clients that read them by queues of their own.

use std::path::Path;

use serde::Serialize;

use crate::arguments::{Format, Revoke};
use crate::failure::Failure;
use crate::{Result, output, request};

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
    let Some(file) = request::mounted(path)? else {
        let shown = path.display();
        return Err(Failure::plain(format!("{shown} is not on a homifs mount; name a file of one")));
    };
    let answer = request::about(&file, "revoke", path)?;
    Ok(answer["handles"].as_u64().unwrap_or(0))
}
