//! What shall be reached: the figures of the design and of the issue that asked for this.

use crate::arguments::{Format, Who};

/// A ratio that homifs must reach against somebody, measured side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) measurement: &'static str,
    pub(crate) against: Who,
    pub(crate) at_least: f64,
}

const fn target(measurement: &'static str, against: Who, at_least: f64) -> Target {
    Target { measurement, against, at_least }
}

/// In which measurement, and by how many microseconds, a read over `soft:` may take longer than on the direct path.
pub(crate) const SOFT_MEASUREMENT: &str = "4 KiB random, depth 1";
pub(crate) const SOFT_MORE_MICROSECONDS: f64 = 5.0;

const EVERY_FORMAT: &[Target] = &[
    target("4 KiB random, depth 1", Who::Ceiling, 0.85),
    target("4 KiB random, depth 32", Who::Ceiling, 0.75),
    target("4 KiB random, 8 threads", Who::Ceiling, 0.75),
    target("1 MiB sequential", Who::Kernel, 0.90),
    target("4 KiB random, depth 32", Who::Kernel, 0.60),
];

const EXT4: &[Target] = &[
    target("4 KiB random, depth 1", Who::Fuse2fs, 1.4),
    target("4 KiB random, depth 32", Who::Fuse2fs, 3.0),
    target("1 MiB sequential", Who::Fuse2fs, 8.0),
    target("stat, each name once", Who::Fuse2fs, 50.0),
];

/// The targets for a volume of this format.
pub(crate) fn for_format(format: Format) -> impl Iterator<Item = &'static Target> {
    let more = if format == Format::Ext4 { EXT4 } else { &[] };
    EVERY_FORMAT.iter().chain(more)
}
