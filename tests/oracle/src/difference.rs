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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fiemap::Piece;

    fn piece(length: u64) -> Piece {
        Piece { logical: 0, physical: 4096, length, unwritten: false, shared: false, inline: false }
    }

    /// A root and a file, as both sides should show them.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        for (ino, path) in [(2, &b""[..]), (12, b"file")] {
            let stat = Stat { ino, mode: 0o100_644, size: 10, ..Stat::default() };
            tree.entries.insert(Name(path.to_vec()), Entry { stat, listed_type: Some(0o100_000) });
            let contents = Contents {
                digests: Ok([(0, 7)].into()),
                data: Ok(vec![(0, 10)]),
                map: Some(Ok(vec![piece(4096)])),
            };
            let kept = Kept {
                link: Some(Ok(b"target".to_vec())),
                xattrs: Ok([(b"user.a".to_vec(), b"value".to_vec())].into()),
                contents: Some(contents),
                born: Some(1),
                attributes: 0,
                project: Some(0),
                generation: Some(5),
            };
            tree.inodes.insert(ino, kept);
        }
        tree
    }

    /// What is reported when the other side has this changed.
    fn reported(change: impl Fn(&mut Tree)) -> Vec<String> {
        let mut other = tree();
        change(&mut other);
        differences(&tree(), &other, Aspects::PARSER)
            .0
            .into_iter()
            .map(|difference| difference.what)
            .collect()
    }

    fn stat(change: impl Fn(&mut Stat)) -> Vec<String> {
        reported(|tree| change(&mut tree.entries.get_mut(&Name(b"file".to_vec())).unwrap().stat))
    }

    fn kept(change: impl Fn(&mut Kept)) -> Vec<String> {
        reported(|tree| change(tree.inodes.get_mut(&12).unwrap()))
    }

    fn held(change: impl Fn(&mut Contents)) -> Vec<String> {
        kept(|kept| change(kept.contents.as_mut().unwrap()))
    }

    #[test]
    fn differences_alike_trees_none() {
        assert!(reported(|_| ()).is_empty());
    }

    #[test]
    fn differences_each_field_of_stat_is_told_by_its_name() {
        assert_eq!(stat(|stat| stat.mode = 0o100_600), ["mode"]);
        assert_eq!(stat(|stat| stat.nlink = 2), ["nlink"]);
        assert_eq!(stat(|stat| stat.uid = 1), ["uid"]);
        assert_eq!(stat(|stat| stat.rdev = (0, 1)), ["rdev"]);
        assert_eq!(stat(|stat| stat.size = 11), ["size"]);
        assert_eq!(stat(|stat| stat.blocks = 1), ["blocks"]);
        assert_eq!(stat(|stat| stat.mtime = 1), ["mtime"]);
        assert_eq!(stat(|stat| stat.atime = 1), ["atime"]);
    }

    #[test]
    fn differences_names_that_only_one_side_has_are_told() {
        let without = |tree: &mut Tree| {
            tree.entries.remove(&Name(b"file".to_vec()));
        };
        assert_eq!(reported(without), ["name"]);
        let extra = |tree: &mut Tree| {
            tree.entries.insert(Name(b"more".to_vec()), Entry::default());
        };
        assert_eq!(reported(extra), ["name"]);
        assert_eq!(reported(|tree| tree.oddities.push((Name::default(), "odd".into()))), ["listing"]);
    }

    #[test]
    fn differences_of_what_an_inode_holds_are_told() {
        assert_eq!(kept(|kept| kept.link = Some(Ok(b"elsewhere".to_vec()))), ["link"]);
        assert_eq!(kept(|kept| kept.xattrs = Ok(BTreeMap::new())), ["xattr user.a"]);
        assert_eq!(kept(|kept| kept.born = None), ["born"]);
        assert_eq!(kept(|kept| kept.generation = Some(6)), ["generation"]);
        assert_eq!(held(|contents| contents.digests = Ok([(0, 8)].into())), ["bytes from 0 on"]);
        assert_eq!(
            held(|contents| contents.digests = Ok([(0, 7), (65536, 1)].into())),
            ["bytes from 65536 on"]
        );
        assert_eq!(held(|contents| contents.digests = Err("no".into())), ["reading"]);
        assert_eq!(held(|contents| contents.data = Ok(vec![(0, 9)])), ["data at place 0 of 1 and 1"]);
        assert_eq!(
            held(|contents| contents.map = Some(Ok(vec![piece(8192)]))),
            ["map at place 0 of 1 and 1"]
        );
        assert_eq!(held(|contents| contents.map = Some(Err("no".into()))), ["map"]);
    }
}
