//! The command `model`: rounds of many processes on a mount, judged.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use model::{Actor, DeviceReader, Outcome, Plan, Stamp, Task, Volume, build, run};
use oracle::{Format, machine};

#[derive(Parser)]
#[command(about = "Checks that every byte which several processes see of a mount has an explanation")]
struct Line {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Does everything that can be done to files.
    Run(Rounds),
    /// Mostly cuts, punches and replaces files under their readers.
    Storm(Rounds),
    #[command(hide = true)]
    Worker(Work),
    #[command(hide = true)]
    Device(Work),
}

#[derive(Args)]
struct Rounds {
    /// What the volume is formatted as
    #[arg(long, default_value = "ext4")]
    format: Formatted,
    /// The mount's option `reads`
    #[arg(long, default_value = "auto")]
    reads: String,
    /// Further options of the mount
    #[arg(long, default_value = "")]
    options: String,
    /// How long all rounds take together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How long one round takes
    #[arg(long, default_value_t = 10)]
    round: u64,
    /// Processes that write and read
    #[arg(long, default_value_t = 4)]
    processes: u32,
    /// Processes that read by queues
    #[arg(long, default_value_t = 2)]
    device_readers: u32,
    /// Names that files have
    #[arg(long, default_value_t = 6)]
    names: u32,
    /// Decides about all choices of all processes, but not about who comes first
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs on the kernel's own mount, without device readers, to see that nothing is asked that files do not give
    #[arg(long)]
    kernel: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Formatted {
    Ext4,
    Xfs,
}

#[derive(Args)]
struct Work {
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    log: PathBuf,
    #[arg(long)]
    actor: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    stamp: u64,
    #[arg(long)]
    until: u64,
    #[arg(long)]
    names: u32,
    #[arg(long)]
    storm: bool,
    #[arg(long)]
    program: Option<PathBuf>,
}

impl From<Work> for Task {
    fn from(work: Work) -> Self {
        let Work { root, log, actor, seed, stamp, until, names, storm, program: _ } = work;
        Self { actor, root, log, seed, stamp: Stamp(stamp), until, names, storm }
    }
}

fn main() -> Result<ExitCode> {
    match Line::parse().what {
        What::Run(rounds) => judge(&rounds, false),
        What::Storm(rounds) => judge(&rounds, true),
        What::Worker(work) => Actor::new(work.into())?.run().map(|()| ExitCode::SUCCESS),
        What::Device(work) => {
            let program = work.program.clone();
            DeviceReader::new(work.into(), program.as_deref())?.run().map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Has the mount's programs be those beside this one, if nobody said otherwise.
fn find_programs(program: &std::path::Path) -> Result<()> {
    const PROGRAMS: &str = "HOMIFS_PROGRAMS";
    if std::env::var_os(PROGRAMS).is_some() {
        return Ok(());
    }
    let folder = program.parent().context("this program lies nowhere")?;
    ensure!(
        folder.join("homifs").exists(),
        "there is no homifs in {}; build it, or set {PROGRAMS} to its folder",
        folder.display()
    );
    // The environment of a process that runs is not changed safely.
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(PROGRAMS, folder).exec();
    Err(error).context("cannot start anew")
}

fn judge(rounds: &Rounds, storm: bool) -> Result<ExitCode> {
    let program = std::env::current_exe()?;
    find_programs(&program)?;
    if let Some(why) = machine::cannot_mount_fuse() {
        println!("skipped: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let format = match rounds.format {
        Formatted::Ext4 => Format::Ext4,
        Formatted::Xfs => Format::Xfs,
    };
    let volume = Volume::new(format)?;
    let built = tempfile::tempdir()?;
    let device_program = if rounds.kernel { None } else { build(built.path())? };
    let start = Instant::now();
    let whole = Duration::from_secs(rounds.seconds);
    let mut clients = format!("reads={},clients={}", rounds.reads, rounds.device_readers.max(1));
    if !rounds.options.is_empty() {
        clients = format!("{clients},{}", rounds.options);
    }
    let mut plan = Plan {
        program,
        options: (!rounds.kernel).then_some(clients),
        length: Duration::ZERO,
        processes: rounds.processes,
        device_readers: if rounds.kernel { 0 } else { rounds.device_readers },
        device_program,
        seed: rounds.seed,
        names: rounds.names,
        storm,
    };
    let mut number = 0;
    while number == 0 || start.elapsed() < whole {
        number += 1;
        plan.length = Duration::from_secs(rounds.round).min(whole.saturating_sub(start.elapsed()));
        let outcome = run(&volume, &plan).with_context(|| format!("round {number}, --seed {}", plan.seed))?;
        say(number, &plan, &outcome);
        if !outcome.complaints.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        plan.seed += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(number: u32, plan: &Plan, outcome: &Outcome) {
    let Outcome { tally, served: [engine, lower], longest, complaints } = outcome;
    println!(
        "round {number}, --seed {}: {} operations on {} files, {} bytes read, {} of them by queues; the engine served \
         {engine}, the lower mount {lower}; longest: {longest}; {} cells judged, {} without explanation",
        plan.seed,
        tally.records,
        tally.files,
        tally.read,
        tally.queued,
        tally.judged,
        complaints.len()
    );
    for complaint in complaints {
        println!("  {complaint}");
    }
}
