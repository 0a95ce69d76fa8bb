//! Volumes that were cut off while the kernel wrote to them, compared with what the kernel and e2fsck make of them.

mod cut;
mod fast_commits;
mod journals;
