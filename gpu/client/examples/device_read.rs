//! Gives queues, memory and a file to a program that reads by commands of its own: an accelerator's kernels, or threads.
//! See `gpu/device/tests/read_file.cu`.
//!
//!     cargo run --release -p homi-client --example device_read -- PROGRAM FILE [PAIRS [ENTRIES [ROUNDS]]]

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, ExitCode};

use homi_client::Session;
use rustix::io::{FdFlags, fcntl_setfd};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("name the program")?;
    let path = arguments.next().ok_or("name a file on a mount of homifs, mounted with -o clients=1")?;
    let mut number = |otherwise: u32| -> Result<u32, Box<dyn Error>> {
        arguments.next().map_or(Ok(otherwise), |text| Ok(text.to_str().ok_or("no number")?.parse()?))
    };
    let (pairs, entries, rounds) = (number(4)?, number(64)?, number(0)?);
    let file = File::open(&path)?;
    let session = Session::of_file(&file)?;
    let opened = session.open(&file)?;
    let queues = session.queues(pairs, entries)?;
    let transfer = session.limits().transfer;
    let buffer = session.buffer(usize::try_from(u64::from(pairs) * u64::from(transfer) * 4)?)?;
    let places = queues.places();
    let descriptors = [queues.memory().as_fd(), queues.doorbells().as_fd(), buffer.memory().as_fd()];
    let mut command = Command::new(program);
    command.arg(&path);
    let sizes = [
        places.stride,
        places.submissions,
        places.completions,
        places.length,
        places.doorbell_stride,
        places.tail_doorbell,
        places.head_doorbell,
        places.doorbells_length,
    ];
    command
        .args([u64::from(opened.nsid()), opened.block_shift().into(), opened.size()].map(|n| n.to_string()));
    command.args([buffer.iova(), u64::try_from(buffer.memory().length())?].map(|n| n.to_string()));
    command.args([places.count, places.entries].map(|n| n.to_string()));
    command.args(sizes.map(|n| n.to_string()));
    command.arg(transfer.to_string());
    for descriptor in descriptors {
        // The program maps them by their numbers.
        fcntl_setfd(descriptor, FdFlags::empty())?;
        command.arg(descriptor.as_raw_fd().to_string());
    }
    let status = command.arg(rounds.to_string()).status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(3)))
}
