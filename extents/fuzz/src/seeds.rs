//! The volumes that `seeds.sh` made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::device::Seed;

/// What is fuzzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// ext2, ext3 and ext4 volumes.
    Ext4,
    /// XFS volumes.
    Xfs,
    /// Journals of ext3 and ext4.
    Jbd2,
    /// GPT and MBR.
    PartitionTable,
}

impl Target {
    /// All of them, by the names of their fuzz targets.
    pub const ALL: [(&str, Self); 4] = [
        ("ext4", Self::Ext4),
        ("xfs", Self::Xfs),
        ("jbd2", Self::Jbd2),
        ("partition_table", Self::PartitionTable),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, target)| *target == self).map_or("", |(name, _)| name)
    }
}

/// The volumes of a target, read once.
///
/// # Panics
/// Where there are none: a run without volumes would prove nothing.
pub(crate) fn of(target: Target) -> &'static [Arc<Seed>] {
    static SEEDS: [OnceLock<Vec<Arc<Seed>>>; 4] = [const { OnceLock::new() }; 4];
    let place = Target::ALL.iter().position(|(_, known)| *known == target).unwrap_or_default();
    SEEDS[place].get_or_init(|| {
        let directory = directory().join(target.name());
        let seeds = read(&directory);
        assert!(!seeds.is_empty(), "no volumes in {}; extents/fuzz/seeds.sh makes them", directory.display());
        seeds
    })
}

fn directory() -> PathBuf {
    std::env::var_os("FUZZ_SEEDS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds"), PathBuf::from)
}

fn read(directory: &Path) -> Vec<Arc<Seed>> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).map(|bytes| Arc::new(Seed::new(&bytes))).collect()
}
