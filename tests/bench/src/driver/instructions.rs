//! Instructions for each read, by valgrind: this program once more, with driver and controller taking turns.

use std::env::current_exe;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Case, name};

/// Reads that are counted: the difference of two runs, in both of which the queue is filled once.
const READS: u64 = 2000;

/// How many instructions the driver's turns take for each read.
pub(super) fn count(case: Case) -> Result<f64> {
    let (more, fewer) = (of_turns(case, 2 * READS)?, of_turns(case, READS)?);
    ensure!(more > fewer, "valgrind counted nothing: was this program built without symbols?");
    Ok((more - fewer) as f64 / READS as f64)
}

/// The instructions of all turns that it takes to have so many reads.
fn of_turns(case: Case, reads: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        // Otherwise whoever looks for work keeps the other, whose turn it is, waiting for long.
        .arg("--fair-sched=try")
        .arg("--toggle-collect=bench::driver::turn*")
        .arg(current_exe()?)
        .args(["driver", "--solo", "--only", &name(case), "--commands", &reads.to_string()])
        .output()
        .context("valgrind, which counts the instructions, could not be started")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{told}");
    let collected =
        told.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    Ok(collected.context("valgrind says nothing of what it counted")?.parse()?)
}
