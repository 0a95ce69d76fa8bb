//! Benchmarks side by side: the kernel's own ext4 or XFS, fuse2fs, homifs and an in-memory FUSE file as ceiling,
//! one after the other on the same RAM-speed device, round after round.
#![deny(unsafe_code)]

mod arguments;
mod ceiling;
mod clients;
mod contender;
mod contents;
mod driver;
mod floods;
mod floor;
mod generator;
mod load;
mod medium;
mod memory;
mod mounts;
mod parser;
mod report;
mod samples;
mod targets;
mod writes;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Mounts(arguments) => mounts::run(&arguments),
        Command::Parser(arguments) => parser::run(&arguments),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Writes(arguments) => writes::run(&arguments),
        Command::Driver(arguments) => driver::run(&arguments),
        Command::Clients(arguments) => clients::run(&arguments),
        Command::Floods(arguments) => floods::run(&arguments),
        Command::Flood(arguments) => floods::flood(&arguments),
        Command::Ceiling(arguments) => ceiling::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
    }
}
