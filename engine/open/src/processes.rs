//! Which processes have a file open, from `/proc`.

use std::fmt;
use std::fs::{self, Metadata};
use std::path::Path;

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opener {
    pub(crate) process: u32,
    pub(crate) name: String,
    pub(crate) writes: bool,
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.writes { "writing" } else { "reading" };
        write!(f, "process {} ({}) has it open for {how}", self.process, self.name)
    }
}

/// The processes that this one can see.
pub(crate) fn all() -> Vec<u32> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Those that have a file open which is called `name` somewhere and for which `is_it` holds. Those that may not be
/// looked at are left out; and the name is asked first, since looking at a file of a dead server may take for ever.
pub(crate) fn openers(name: &Path, is_it: impl Fn(&Metadata) -> bool) -> Vec<Opener> {
    let last = name.file_name().unwrap_or_default();
    let mut found = Vec::new();
    for process in all() {
        let Ok(listing) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        let files = listing.flatten().filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.file_name() == Some(last))
                && fs::metadata(entry.path()).is_ok_and(|meta| is_it(&meta))
        });
        let descriptors: Vec<String> =
            files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        if !descriptors.is_empty() {
            let writes = descriptors.iter().any(|descriptor| may_write(process, descriptor));
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            found.push(Opener { process, name: name.trim().to_owned(), writes });
        }
    }
    found
}

/// Whether a descriptor was opened with `O_WRONLY` or `O_RDWR`: `flags: 0100002` in its fdinfo, in octal.
fn may_write(process: u32, descriptor: &str) -> bool {
    let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.is_some_and(|flags| flags.trim().ends_with(['1', '2']))
}
