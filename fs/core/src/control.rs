//! Requests on the control file: one JSON object in a line, one line of JSON for an answer.

use std::collections::VecDeque;

use extents_core::{Ino, VolumeInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access::{self, Caller};
use crate::error::{FsError, Result};
use crate::homifs::Homifs;
use crate::layout::{self, JsonMap};

/// Longest request and longest pile of unread answers, in bytes, for each open of the control file.
const CONVERSATION_MAX: usize = 1 << 20;

/// What was written to one open control file and not answered, and what was answered and not read.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    line: Vec<u8>,
    answers: VecDeque<u8>,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    /// Which requests there are.
    Help,
    /// What the volume says about itself.
    Volume,
    /// The extents of a file from place `first` on, at most `count` of them.
    Extents {
        path: String,
        #[serde(default)]
        first: usize,
        count: Option<usize>,
    },
    /// The line that `homi.layout` gives.
    Layout { path: String },
    /// Who serves a file's reads, and why.
    File { path: String },
    /// Changes the mount as `mount -o remount` with these options does.
    Remount { options: String },
    /// The text of the file `stats`.
    Stats,
    /// Takes a file back from every client that reads it by queues of its own.
    Revoke { path: String },
}

const HELP: [&str; 8] = [
    r#"{"op":"help"}"#,
    r#"{"op":"volume"}"#,
    r#"{"op":"extents","path":"dir/file","first":0,"count":1000}"#,
    r#"{"op":"layout","path":"dir/file"}"#,
    r#"{"op":"file","path":"dir/file"}"#,
    r#"{"op":"stats"}"#,
    r#"{"op":"remount","options":"ro"}"#,
    r#"{"op":"revoke","path":"dir/file"}"#,
];

/// The answer where nothing else fits.
const TOO_LARGE: &str = r#"{"version":1,"ok":false,"errno":7,"error":"the answer does not fit"}"#;

#[derive(Debug, Serialize)]
struct Failure {
    version: u32,
    ok: bool,
    errno: i32,
    error: String,
}

impl Conversation {
    /// Takes what was written; each line that is complete is answered.
    pub(crate) fn write(&mut self, homifs: &Homifs, bytes: &[u8], caller: &Caller) -> Result<()> {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() >= CONVERSATION_MAX {
                    self.line.clear();
                    return Err(FsError::TooBig);
                }
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let room = CONVERSATION_MAX.saturating_sub(self.answers.len() + 1);
            if room < TOO_LARGE.len() {
                return Err(FsError::TooBig);
            }
            self.answers.extend(answer(homifs, &line, caller, room).as_bytes());
            self.answers.push_back(b'\n');
        }
        Ok(())
    }

    /// Takes at most `size` bytes of answers.
    pub(crate) fn read(&mut self, size: usize) -> Vec<u8> {
        self.answers.drain(..size.min(self.answers.len())).collect()
    }
}

/// Answers one request in at most `room` bytes.
pub(crate) fn answer(homifs: &Homifs, line: &[u8], caller: &Caller, room: usize) -> String {
    let answered = match serde_json::from_slice::<Control>(line) {
        Ok(request) => {
            carry_out(homifs, request, caller, room).map_err(|error| (error.errno(), error.to_string()))
        }
        Err(error) => Err((libc::EINVAL, format!("{error}; {{\"op\":\"help\"}} lists the requests"))),
    };
    let text = match answered {
        Ok(mut value) => {
            if let Some(object) = value.as_object_mut() {
                object.insert("ok".to_owned(), Value::Bool(true));
                object.entry("version").or_insert(json!(1));
            }
            value.to_string()
        }
        Err((errno, error)) => {
            serde_json::to_string(&Failure { version: 1, ok: false, errno, error }).unwrap_or_default()
        }
    };
    if text.len() <= room { text } else { TOO_LARGE.to_owned() }
}

fn carry_out(homifs: &Homifs, request: Control, caller: &Caller, room: usize) -> Result<Value> {
    Ok(match request {
        Control::Help => json!({ "requests": HELP }),
        Control::Volume => volume_json(homifs.volume().info(), homifs),
        Control::Stats => json!({ "prometheus": homifs.stats_text() }),
        Control::Remount { options } => {
            if caller.uid != 0 {
                return Err(FsError::Denied);
            }
            homifs.remount(&options)?;
            json!({})
        }
        Control::Revoke { path } => {
            let ino = readable(homifs, &path, caller)?;
            // Taking it from others is for its owner.
            if caller.uid != 0 && caller.uid != homifs.volume().metadata(ino)?.uid {
                return Err(FsError::Denied);
            }
            json!({ "handles": homifs.revoke(ino) })
        }
        Control::File { path } => {
            let ino = readable(homifs, &path, caller)?;
            let standing = homifs.standing(ino)?;
            let mut told = serde_json::to_value(standing).map_err(|_| FsError::Invalid)?;
            if let Some(object) = told.as_object_mut() {
                let map = homifs.map_of(ino)?;
                object.insert("ino".to_owned(), json!(ino.0));
                object.insert("size_bytes".to_owned(), json!(map.size()));
                object.insert("extents".to_owned(), json!(map.len()));
                object.insert("generation".to_owned(), json!(map.generation()));
            }
            told
        }
        Control::Layout { path } => {
            let ino = readable(homifs, &path, caller)?;
            let (format, engine) = (homifs.volume().info().format, &homifs.device().info().path);
            json!({ "layout": layout::line(&*homifs.map_of(ino)?, homifs.map_context(ino), format, engine) })
        }
        Control::Extents { path, first, count } => {
            let ino = readable(homifs, &path, caller)?;
            let fits = room.saturating_sub(layout::JSON_MAP_OVERHEAD) / layout::JSON_EXTENT_MAX;
            let count = count.map_or(fits, |count| count.min(fits));
            let map = JsonMap::new(&*homifs.map_of(ino)?, homifs.map_context(ino), first, count);
            serde_json::to_value(map).map_err(|_| FsError::Invalid)?
        }
    })
}

/// The regular file at `path` below the mount's root, if the caller may reach and read it. Symbolic links are not
/// followed: whoever has a path with links in it has the file, too, and can ask that.
fn readable(homifs: &Homifs, path: &str, caller: &Caller) -> Result<Ino> {
    let volume = homifs.volume();
    let mut ino = volume.root();
    let mut metadata = volume.metadata(ino)?;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if !metadata.is_directory() {
            return Err(FsError::NotADirectory);
        }
        caller.require(volume, ino, &metadata, access::SEARCH)?;
        ino = volume.lookup(ino, name.as_bytes())?.ok_or(FsError::NotFound)?;
        metadata = volume.metadata(ino)?;
    }
    if !metadata.is_regular() {
        return Err(FsError::WrongType);
    }
    caller.require(volume, ino, &metadata, access::READ)?;
    Ok(ino)
}

/// What the file `volume` and the request `volume` tell.
pub(crate) fn volume_json(info: &VolumeInfo, homifs: &Homifs) -> Value {
    let uuid = info.uuid.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let features: Vec<&str> = info.features.iter().map(|feature| &*feature.name).collect();
    let device = homifs.device().info();
    json!({
        "version": 1,
        "format": info.format,
        "format_version": info.version,
        "uuid": uuid,
        "label": String::from_utf8_lossy(&info.label),
        "block_size_bytes": info.block_size,
        "sector_size_bytes": info.sector_size,
        "size_bytes": info.size,
        "features": features,
        "recovery": info.recovery,
        "source": homifs.source(),
        "engine": device.path,
        "device_size_bytes": device.size,
        "device_block_bytes": device.logical_block,
        "volume_start_bytes": homifs.volume_start(),
    })
}
