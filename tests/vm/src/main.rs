//! Runs one command in a throw-away guest: prints what it wrote and ends with its status.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use vm::{Guest, Kit};

/// Boots a guest, runs a script of bash in it, prints what it wrote and ends with its status.
///
/// Ends with 124 where the script ran out of time and with 125 where the guest gave no status.
#[derive(Debug, Parser)]
struct Arguments {
    /// Gives the guest the device of a vfio-user server at this socket; can be repeated
    #[arg(long, value_name = "SOCKET")]
    vfio_user: Vec<PathBuf>,
    /// Adds a device in the words of QEMU's -device; can be repeated
    #[arg(long)]
    device: Vec<String>,
    /// Puts a file into /mnt of the guest; can be repeated
    #[arg(long, value_name = "FILE")]
    carry: Vec<PathBuf>,
    /// The guest's memory, in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// The guest's processors
    #[arg(long, default_value_t = 2)]
    processors: u32,
    /// What all of it may take, in seconds
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// Prints the guest's console too, when all is over
    #[arg(long)]
    console: bool,
    /// The script; its words are joined by spaces
    #[arg(required = true, trailing_var_arg = true)]
    script: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kit = Kit::find().map_err(|reason| anyhow!(reason))?;
    let limit = Duration::from_secs(arguments.limit);
    let mut guest =
        Guest::new(&kit).memory_mib(arguments.memory).processors(arguments.processors).limit(limit);
    for socket in &arguments.vfio_user {
        guest = guest.vfio_user(socket);
    }
    for device in &arguments.device {
        guest = guest.device(device);
    }
    for file in &arguments.carry {
        let name =
            file.file_name().and_then(|name| name.to_str()).context("a file to carry has no plain name")?;
        guest = guest.carry(file, name);
    }
    let mut running = guest.boot()?;
    let finished = running.run_within(&arguments.script.join(" "), limit)?;
    print!("{}", finished.stdout);
    eprint!("{}", finished.stderr);
    if arguments.console {
        eprint!("{}", running.console());
    }
    Ok(ExitCode::from(u8::try_from(finished.status).unwrap_or(125)))
}
