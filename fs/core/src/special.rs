//! Our own files in the hidden directory `.homi`: their attributes, their listing and their text.

use extents_core::{DeviceNumber, FileType, Flow, Ino, InodeFlags, Metadata, Timestamp, to_u64, to_usize};

use crate::control;
use crate::homifs::{Homifs, Listed, NodeAttributes};
use crate::node::Special;

/// What `stat` tells about one of our files. Their size is 0, as that of files in `/proc`, since their text is made
/// when they are opened.
pub(crate) fn attributes(special: Special) -> NodeAttributes {
    let (file_type, mode, links) = match special {
        Special::Directory => (FileType::Directory, 0o040_555, 2),
        Special::Control => (FileType::Regular, 0o100_666, 1),
        Special::Socket => (FileType::Symlink, 0o120_777, 1),
        _ => (FileType::Regular, 0o100_444, 1),
    };
    let node = special.node();
    let metadata = Metadata {
        ino: Ino(node.0),
        generation: 0,
        mode,
        file_type,
        links,
        uid: 0,
        gid: 0,
        size: 0,
        sectors: 0,
        accessed: Timestamp::default(),
        modified: Timestamp::default(),
        changed: Timestamp::default(),
        born: None,
        device: DeviceNumber::default(),
        flags: InodeFlags::empty(),
        project: 0,
    };
    NodeAttributes { node, metadata }
}

/// Lists the hidden directory; `root` is its parent.
pub(crate) fn list(homifs: &Homifs, root: Ino, from: u64, visit: &mut dyn FnMut(Listed<'_>) -> Flow) {
    let own = attributes(Special::Directory).metadata.ino;
    let dots = [(&b"."[..], own, FileType::Directory), (b"..", root, FileType::Directory)];
    let files = Special::FILES
        .iter()
        .filter(|(special, _)| homifs.has(*special))
        .map(|&(special, name)| (name.as_bytes(), attributes(special).metadata))
        .map(|(name, metadata)| (name, metadata.ino, metadata.file_type));
    for (place, (name, ino, file_type)) in dots.into_iter().chain(files).enumerate().skip(to_usize(from)) {
        let entry = Listed { name, ino, file_type: Some(file_type), next: to_u64(place) + 1 };
        if visit(entry).is_break() {
            return;
        }
    }
}

/// What a reader of one of our files gets.
pub(crate) fn text(homifs: &Homifs, special: Special) -> String {
    match special {
        Special::Stats => homifs.stats_text(),
        Special::Volume => pretty(&control::volume_json(homifs.volume().info(), homifs)),
        Special::State => pretty(&serde_json::json!({
            "version": 1,
            "pid": std::process::id(),
            "homifs": env!("CARGO_PKG_VERSION"),
            "source": homifs.source(),
            "read_only": homifs.options().read_only,
            "options": homifs.options().to_string(),
            "engine": homifs.device().info().path,
        })),
        Special::Directory | Special::Control | Special::Socket => String::new(),
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// The part of a text that a read asks for.
pub(crate) fn part(text: &[u8], offset: u64, size: u32) -> &[u8] {
    let rest = text.get(to_usize(offset)..).unwrap_or_default();
    rest.get(..to_usize(size.into())).unwrap_or(rest)
}
