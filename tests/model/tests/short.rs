//! The model checker for a few seconds. For longer: `target/debug/model run --help`.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use model::{Outcome, Plan, Volume, build, run};
use oracle::{Format, machine, skip_if};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

fn plan(options: Option<&str>, storm: bool) -> Plan {
    Plan {
        program: env!("CARGO_BIN_EXE_model").into(),
        options: options.map(str::to_owned),
        length: Duration::from_millis(2000),
        processes: 4,
        device_readers: if options.is_some() { 2 } else { 0 },
        device_program: None,
        seed: 1,
        names: 6,
        storm,
    }
}

/// One at a time: a process that one starts has the other's files for a moment, and keeps its volume from being unmounted.
static ALONE: Mutex<()> = Mutex::new(());

fn without_complaint(plan: &Plan) -> Result<Vec<Outcome>> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let device_program = if plan.device_readers > 0 { build(folder.path())? } else { None };
    let plan = &Plan { device_program, ..plan.clone() };
    let mut outcomes = Vec::new();
    for format in FORMATS {
        let outcome = run(&Volume::new(format)?, plan)?;
        ensure!(outcome.complaints.is_empty(), "{format:?}, {plan:?}: {}", outcome.complaints.join("\n"));
        ensure!(outcome.tally.judged > 10_000, "{format:?}: hardly anything was done: {outcome:?}");
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

#[test]
fn everything_seen_of_a_mount_has_an_explanation() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for outcome in without_complaint(&plan(Some("reads=engine,clients=2"), false))? {
        ensure!(outcome.tally.queued > 0 && outcome.served[0] > 0, "the engine read nothing: {outcome:?}");
    }
    Ok(())
}

#[test]
fn everything_seen_in_a_storm_of_recalls_has_an_explanation() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for outcome in without_complaint(&plan(Some("reads=auto,clients=2"), true))? {
        ensure!(outcome.tally.queued > 0, "nothing was read by queues: {outcome:?}");
    }
    Ok(())
}

#[test]
fn everything_seen_of_the_kernels_own_mount_has_an_explanation() -> Result<()> {
    skip_if!(machine::cannot_mount());
    without_complaint(&plan(None, false))?;
    Ok(())
}
