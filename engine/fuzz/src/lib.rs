//! Both sides of the NVMe queues against whatever the other side may do.
//!
//! An input is a list of things that a hostile host does to a controller (or the other way round). Whatever it does, the
//! other side must not panic, run on without end, touch memory that it was not given, or answer twice.
//!
//! `fuzz_targets/` drives this by libFuzzer (`cargo fuzz`), `src/bin/drive.rs` by random numbers, for machines that have
//! neither a sanitizer nor the time. A further target is a function of bytes and a line in [`Target::ALL`].
#![forbid(unsafe_code)]

mod controller;
mod driver;
mod spec;

/// What is fuzzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The controller, by a host that does anything.
    Controller,
    /// The driver, by a controller that says and does anything.
    Driver,
    /// What the structures of Identify and the log pages are taken apart into.
    Spec,
}

impl Target {
    /// All of them, by the names of their fuzz targets.
    pub const ALL: [(&str, Self); 3] =
        [("controller", Self::Controller), ("driver", Self::Driver), ("spec", Self::Spec)];

    /// Most bytes of an input that a run by random numbers makes.
    #[must_use]
    pub fn input_most(self) -> usize {
        match self {
            Self::Controller => 4000,
            Self::Driver => 600,
            Self::Spec => 4200,
        }
    }
}

/// Runs one input and answers how much came of it: commands that were answered, or structures that were taken apart. 0
/// where already the beginning was refused, or the bytes make no input.
pub fn check(target: Target, bytes: &[u8]) -> usize {
    match target {
        Target::Controller => controller::check(bytes),
        Target::Driver => driver::check(bytes),
        Target::Spec => spec::check(bytes),
    }
}
