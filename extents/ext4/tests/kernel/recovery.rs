//! Volumes that were cut off from a live file system: what we show of them must be what the kernel shows after
//! its own recovery, and what e2fsck makes of them.

mod cut;
mod fast_commits;
mod journals;
