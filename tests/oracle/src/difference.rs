//! Tells two trees apart.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::tree::{Contents, Entry, Kept, Name, Stat, Tree};

/// One thing that two sides show differently.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Where.
    pub path: Name,
    /// What: `size`, `map`, `xattr user.x`.
    pub what: String,
    /// What the side to be believed shows.
    pub expected: String,
    /// What the other side shows.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, expected, found } = self;
        write!(f, "/{path:?}: {what}: expected {expected}, found {found}")
    }
}

/// All differences; prints as a table that ends before it fills the screen.
#[derive(Debug, Clone, Default)]
pub struct Report(pub Vec<Difference>);

const SHOWN: usize = 30;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds = BTreeMap::<&str, usize>::new();
        for difference in &self.0 {
            *kinds.entry(difference.what.split(' ').next().unwrap_or_default()).or_default() += 1;
        }
        writeln!(f, "{} differences: {kinds:?}", self.0.len())?;
        self.0.iter().take(SHOWN).try_for_each(|difference| writeln!(f, "  {difference}"))?;
        if self.0.len() > SHOWN { writeln!(f, "  ... and {} more", self.0.len() - SHOWN) } else { Ok(()) }
    }
}

/// What of two trees to compare, beyond what every file system shows.
#[derive(Debug, Clone, Copy)]
pub struct Aspects {
    /// Extent maps.
    pub maps: bool,
    /// Birth time, attributes, project id and generation, which FUSE does not carry.
    pub beyond_fuse: bool,
}

impl Aspects {
    /// What a parser must show as the kernel does: everything.
    pub const PARSER: Self = Self { maps: true, beyond_fuse: true };
    /// What a FUSE mount must show as the kernel does.
    pub const MOUNT: Self = Self { maps: false, beyond_fuse: false };
}

/// What `found` shows differently from `expected`.
#[must_use]
pub fn differences(expected: &Tree, found: &Tree, aspects: Aspects) -> Report {
    let mut list = Vec::new();
    let mut compared = HashSet::new();
    for (path, oddity) in &found.oddities {
        add(&mut list, path, "listing", &"consistent", oddity);
    }
    for (path, entry) in &expected.entries {
        match found.entries.get(path) {
            Some(other) => {
                entries(&mut list, path, entry, other);
                let (one, two) = (entry.stat.ino, other.stat.ino);
                if compared.insert((one, two))
                    && let (Some(one), Some(two)) = (expected.inodes.get(&one), found.inodes.get(&two))
                {
                    everything_kept(&mut list, path, one, two, aspects);
                }
            }
            None => add(&mut list, path, "name", &format_args!("inode {}", entry.stat.ino), &"none"),
        }
    }
    for (path, entry) in found.entries.iter().filter(|(path, _)| !expected.entries.contains_key(path)) {
        add(&mut list, path, "name", &"none", &format_args!("inode {}", entry.stat.ino));
    }
    Report(list)
}

fn add(
    list: &mut Vec<Difference>,
    path: &Name,
    what: &str,
    expected: &dyn fmt::Display,
    found: &dyn fmt::Display,
) {
    list.push(Difference {
        path: path.clone(),
        what: what.into(),
        expected: expected.to_string(),
        found: found.to_string(),
    });
}

/// Notes where two values differ, cut to a length that can be read.
fn check<T: PartialEq + fmt::Debug>(
    list: &mut Vec<Difference>,
    path: &Name,
    what: &str,
    expected: &T,
    found: &T,
) {
    if expected != found {
        add(list, path, what, &short(&format!("{expected:?}")), &short(&format!("{found:?}")));
    }
}

fn short(text: &str) -> String {
    const MOST: usize = 160;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}... ({} characters)", &text[..cut], text.len()),
        None => text.into(),
    }
}

fn entries(list: &mut Vec<Difference>, path: &Name, expected: &Entry, found: &Entry) {
    stats(list, path, &expected.stat, &found.stat);
    // A volume without the filetype feature lists no types, and a reader may look into the inode or not.
    if let (Some(expected), Some(found)) = (expected.listed_type, found.listed_type) {
        check(list, path, "listed type", &expected, &found);
    }
}

fn stats(list: &mut Vec<Difference>, path: &Name, expected: &Stat, found: &Stat) {
    macro_rules! each {
        ($($field:ident),+) => { $(check(list, path, stringify!($field), &expected.$field, &found.$field);)+ };
    }
    each!(ino, nlink, uid, gid, rdev, size, blocks, atime, mtime, ctime);
    check(list, path, "mode", &format!("{:o}", expected.mode), &format!("{:o}", found.mode));
}

fn everything_kept(list: &mut Vec<Difference>, path: &Name, expected: &Kept, found: &Kept, aspects: Aspects) {
    let text = |link: &Option<Result<Vec<u8>, String>>| {
        link.as_ref()
            .map(|link| link.as_ref().map(|link| link.escape_ascii().to_string()).map_err(String::clone))
    };
    if expected.link != found.link {
        check(list, path, "link", &text(&expected.link), &text(&found.link));
    }
    match (&expected.xattrs, &found.xattrs) {
        (Ok(expected), Ok(found)) => {
            for name in expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name))) {
                let what = format!("xattr {}", name.escape_ascii());
                check(list, path, &what, &expected.get(name), &found.get(name));
            }
        }
        (expected, found) => check(list, path, "xattrs", expected, found),
    }
    match (&expected.contents, &found.contents) {
        (Some(expected), Some(found)) => contents(list, path, expected, found, aspects),
        (expected, found) => check(list, path, "contents", &expected.is_some(), &found.is_some()),
    }
    if aspects.beyond_fuse {
        check(list, path, "born", &expected.born, &found.born);
        check(list, path, "attributes", &expected.attributes, &found.attributes);
        if expected.project.is_some() {
            check(list, path, "project", &expected.project, &found.project);
        }
        if expected.generation.is_some() {
            check(list, path, "generation", &expected.generation, &found.generation);
        }
    }
}

fn contents(
    list: &mut Vec<Difference>,
    path: &Name,
    expected: &Contents,
    found: &Contents,
    aspects: Aspects,
) {
    sequences(list, path, "data", &expected.data, &found.data);
    match (&expected.digests, &found.digests) {
        (Ok(expected), Ok(found)) => {
            let other = expected.iter().chain(found).find(|(at, _)| expected.get(at) != found.get(at));
            if let Some((at, _)) = other {
                check(list, path, &format!("bytes from {at} on"), &expected.get(at), &found.get(at));
            }
        }
        (expected, found) => {
            check(list, path, "reading", &expected.as_ref().map(drop), &found.as_ref().map(drop));
        }
    }
    if let (true, Some(expected), Some(found)) = (aspects.maps, &expected.map, &found.map) {
        sequences(list, path, "map", expected, found);
    }
}

/// Compares two lists and shows the first place where they part.
fn sequences<T: PartialEq + fmt::Debug>(
    list: &mut Vec<Difference>,
    path: &Name,
    what: &str,
    expected: &Result<Vec<T>, String>,
    found: &Result<Vec<T>, String>,
) {
    let (Ok(expected), Ok(found)) = (expected, found) else {
        let tell = |side: &Result<Vec<T>, String>| side.as_ref().map(Vec::len).map_err(String::clone);
        return check(list, path, what, &tell(expected), &tell(found));
    };
    if expected != found {
        let alike = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
        let what = format!("{what} at place {alike} of {} and {}", expected.len(), found.len());
        check(list, path, &what, &expected.get(alike), &found.get(alike));
    }
}
