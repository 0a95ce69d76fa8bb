//! `homifs ls`: the names on a volume.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use extents_core::{FileType, Ino};
use homifs_core::{Homifs, NodeAttributes};
use serde::Serialize;

use crate::arguments::{Format, Ls};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{Result, output, stat, tree, volume};

/// What is listed goes out as it is found: a volume may hold more than memory does.
struct Lister<'a> {
    homifs: &'a Homifs,
    arguments: &'a Ls,
    output: BufWriter<io::StdoutLock<'static>>,
    progress: Progress,
    listed: bool,
    failed: bool,
}

#[derive(Debug, Serialize)]
struct Brief<'a> {
    path: &'a str,
    ino: u64,
}

pub(crate) fn run(arguments: &Ls) -> Result {
    let volume = volume::open_unmounted(&arguments.spec, &arguments.place)?;
    let mut lister = Lister {
        homifs: &volume.homifs,
        arguments,
        output: BufWriter::new(io::stdout().lock()),
        progress: Progress::counter(),
        listed: false,
        failed: false,
    };
    if lister.is_json() {
        write!(lister.output, "{{\"version\": 1, \"files\": [")?;
    }
    for path in &arguments.paths {
        let found = tree::find_itself(lister.homifs, path)?;
        let shown = path.to_string_lossy().into_owned();
        if found.metadata.is_directory() {
            lister.tree(shown, found)?;
        } else {
            lister.entry(&shown, shown.as_bytes(), found.metadata.ino, Some(&found))?;
        }
    }
    if lister.is_json() {
        writeln!(lister.output, "\n]}}")?;
    }
    lister.output.flush()?;
    // What could not be read was told of where it came up.
    if lister.failed { Err(Failure::plain("")) } else { Ok(()) }
}

impl Lister<'_> {
    fn is_json(&self) -> bool {
        self.arguments.output.output == Format::Json
    }

    /// A directory, and those below it where asked. Each directory once, since a damaged volume may have circles.
    fn tree(&mut self, path: String, top: NodeAttributes) -> Result {
        let titled = self.arguments.recursive || self.arguments.paths.len() > 1;
        let mut seen = HashSet::from([top.metadata.ino]);
        let mut waiting = vec![(path, top)];
        while let Some((path, directory)) = waiting.pop() {
            if titled && !self.is_json() {
                writeln!(
                    self.output,
                    "{}{}:",
                    if self.listed { "\n" } else { "" },
                    output::name(path.as_bytes())
                )?;
                self.listed = true;
            }
            let mut below = self.directory(&path, &directory)?;
            below.retain(|(_, below)| seen.insert(below.metadata.ino));
            // The last one pushed comes first.
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, directory: &NodeAttributes) -> Result<Vec<(String, NodeAttributes)>> {
        let (mut names, mut below) = (Vec::new(), Vec::new());
        let (homifs, arguments) = (self.homifs, self.arguments);
        let read = homifs.read_dir(directory.node, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                // Only where the entry itself does not tell enough; an inode costs a read.
                let is_directory = entry.file_type.is_none_or(|known| known == FileType::Directory);
                let needed = arguments.long || arguments.recursive && is_directory;
                let attributes = if needed { homifs.attributes_of_listed(&entry) } else { None };
                names.push((entry.name.to_vec(), entry.ino, attributes, needed));
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = read {
            self.complain(&Failure::file(path, &error))?;
        }
        names.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, ino, attributes, needed) in names {
            let full = format!("{}/{}", path.trim_end_matches('/'), String::from_utf8_lossy(&name));
            if needed && attributes.is_none() {
                self.complain(&Failure::plain(format!("{full}: inode {ino} cannot be read")))?;
            }
            self.entry(&full, &name, ino, attributes.as_ref())?;
            if let Some(attributes) = attributes
                && self.arguments.recursive
                && attributes.metadata.is_directory()
            {
                below.push((full, attributes));
            }
        }
        Ok(below)
    }

    fn complain(&mut self, failure: &Failure) -> io::Result<()> {
        self.failed = true;
        self.output.flush()?;
        failure.tell();
        Ok(())
    }

    fn entry(&mut self, path: &str, name: &[u8], ino: Ino, attributes: Option<&NodeAttributes>) -> Result {
        self.progress.advance(1);
        let target = match attributes {
            Some(found) if found.metadata.file_type == FileType::Symlink => {
                self.homifs.read_link(found.node).ok().map(|target| output::name(&target))
            }
            _ => None,
        };
        if self.is_json() {
            let separator = if self.listed { "," } else { "" };
            write!(self.output, "{separator}\n  ")?;
            match attributes {
                Some(found) if self.arguments.long => {
                    serde_json::to_writer(&mut self.output, &stat::file(path, &found.metadata, target))?;
                }
                _ => serde_json::to_writer(&mut self.output, &Brief { path, ino: ino.0 })?,
            }
        } else {
            if let Some(NodeAttributes { metadata, .. }) = attributes.filter(|_| self.arguments.long) {
                let size = match metadata.file_type {
                    FileType::CharDevice | FileType::BlockDevice => {
                        format!("{}, {}", metadata.device.major, metadata.device.minor)
                    }
                    _ => metadata.size.to_string(),
                };
                write!(
                    self.output,
                    "{} {:>4} {:>5} {:>5} {size:>12} {} ",
                    output::mode(metadata.mode, metadata.file_type),
                    metadata.links,
                    metadata.uid,
                    metadata.gid,
                    &output::time(metadata.modified)[..19],
                )?;
            }
            let points_to = target.map(|target| format!(" -> {target}")).unwrap_or_default();
            writeln!(self.output, "{}{points_to}", output::name(name))?;
        }
        self.listed = true;
        Ok(())
    }
}
