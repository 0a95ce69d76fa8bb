//! The homifs command.
//!
//! One definition of its arguments ([`arguments`]) makes the parser, the help, the man pages and the completions; the
//! options of a mount come from the table in `homifs-options`.
#![forbid(unsafe_code)]

mod arguments;
mod cat;
mod check;
mod controller;
mod daemon;
mod extents;
mod failure;
mod file_map;
mod generate;
mod info;
mod join;
mod list;
mod logging;
mod mount;
mod mounts;
mod output;
mod progress;
mod prometheus;
mod ready;
mod remount;
mod request;
mod revoke;
mod snapshot;
mod stat;
mod stats;
mod tree;
mod umount;
mod utab;
mod volume;
mod witness;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};
use crate::failure::{Failure, exit};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refused) => {
            // Help and version are no errors. A usage error has the exit code of mount(8), as mount's has to.
            let code = if refused.use_stderr() { exit::USAGE } else { 0 };
            let _ = refused.print();
            return ExitCode::from(code);
        }
    };
    let done = match arguments.command {
        Command::Mount(arguments) => mount::run(&arguments),
        Command::Remount(arguments) => remount::run(&arguments),
        Command::Umount(arguments) => umount::run(&arguments),
        Command::Extents(arguments) => extents::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Ls(arguments) => list::run(&arguments),
        Command::Cat(arguments) => cat::run(&arguments),
        Command::Stat(arguments) => stat::run(&arguments),
        Command::Controller(arguments) => controller::run(&arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Revoke(arguments) => revoke::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Man { directory } => generate::man_pages(&directory),
        Command::Completions { shell } => generate::completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// The result of a command.
type Result<T = ()> = std::result::Result<T, Failure>;
