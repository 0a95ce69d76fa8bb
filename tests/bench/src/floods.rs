//! What is left to a client beside a process that floods the daemon with requests, by the wall clock: beside nobody, each
//! kind of flood, and a process with as many threads that does nothing but spin, which is what the scheduler alone takes.
//!
//! All are processes of their own, on a real mount, and take turns: each turn measures the client beside every one of
//! them, and what counts is the median of the ratios turn by turn, so that what else the machine does cancels out.

mod flooder;
mod victim;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::arguments::{FloodArguments, FloodKind, Format, Who};
use crate::clients::TmpfsImage;
use crate::contender::{Mounted, Setting, homifs_program};
use crate::report::{machine, number, right, table};
use crate::samples::Samples;

pub(crate) use flooder::run as flood;
use victim::{Load, Victim};

/// Somebody without any right but to read what all may.
const HOSTILE: u32 = 12345;
/// MiB of the file that is read.
const DATA_MIB: u64 = 64;

/// What was measured beside one kind.
#[derive(Debug, Default)]
struct Beside {
    rates: Samples,
    requests: Samples,
    /// Thread time that the daemon took in a second, by what its threads are for.
    daemon: [Samples; 3],
}

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &FloodArguments) -> Result<()> {
    println!("{}", machine());
    let image = TmpfsImage::new(DATA_MIB)?;
    let setting = Setting {
        format: Format::Ext4,
        device: image.path().to_owned(),
        homifs: homifs_program(arguments.homifs.as_deref()),
        options: format!("clients={}", arguments.mediators),
        data_mib: DATA_MIB,
        names: 0,
    };
    let mounted = Who::Homifs.mount(&setting)?;
    let file = mounted.root.path().join("large");
    let mut rows = table(&[
        "client",
        "beside",
        "rate/s",
        "of alone",
        "of beside spin",
        "requests/s",
        "mediators",
        "requests",
        "others",
    ]);
    for load in [Load::Full, Load::Now] {
        if !arguments.only.is_empty()
            && !arguments.only.iter().any(|part| load.name().contains(part.as_str()))
        {
            continue;
        }
        let mut victim = Victim::new(&file, load)?;
        let mut all: BTreeMap<FloodKind, Beside> = BTreeMap::new();
        for turn in 0..=arguments.rounds {
            for &kind in FloodKind::ALL {
                let (rate, requests, daemon) = measure(arguments, &mounted, &mut victim, &file, kind)?;
                // The first is for caches and tables to be filled.
                if turn > 0 {
                    let beside = all.entry(kind).or_default();
                    beside.rates.push(rate);
                    beside.requests.push(requests);
                    beside.daemon.iter_mut().zip(daemon).for_each(|(samples, share)| samples.push(share));
                }
            }
        }
        let rates_beside = |kind| all.get(&kind).map(|beside| beside.rates.clone()).unwrap_or_default();
        let (alone, spin) = (rates_beside(FloodKind::Nobody), rates_beside(FloodKind::Spin));
        for (kind, beside) in &all {
            let figure = |samples: &Samples| right(number(samples.median().unwrap_or(0.0)));
            rows.add_row([
                right(load.name()),
                right(kind.name()),
                figure(&beside.rates),
                right(number(beside.rates.ratio_to(&alone).unwrap_or(0.0))),
                right(number(beside.rates.ratio_to(&spin).unwrap_or(0.0))),
                figure(&beside.requests),
                figure(&beside.daemon[0]),
                figure(&beside.daemon[1]),
                figure(&beside.daemon[2]),
            ]);
        }
    }
    println!("{rows}");
    Ok(())
}

/// The client's rate beside a flood, the flood's, and what the daemon's threads took meanwhile.
fn measure(
    arguments: &FloodArguments,
    mounted: &Mounted,
    victim: &mut Victim,
    file: &Path,
    kind: FloodKind,
) -> Result<(f64, f64, [f64; 3])> {
    let flood = if kind == FloodKind::Nobody { None } else { Some(Flood::start(arguments, file, kind)?) };
    victim.work(Duration::from_secs_f64(arguments.seconds / 4.0))?;
    let before = thread_times(mounted)?;
    let (rate, time) = victim.work(Duration::from_secs_f64(arguments.seconds))?;
    let after = thread_times(mounted)?;
    let took = |place: usize| (after[place] - before[place]).max(0.0) / time;
    let requests = flood.map_or(Ok(0.0), Flood::end)?;
    Ok((rate, requests, [took(0), took(1), took(2)]))
}

/// A process that floods until it is told to end.
struct Flood(Child);

impl Flood {
    fn start(arguments: &FloodArguments, file: &Path, kind: FloodKind) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("flood").arg(file).args(["--kind", kind.name()]);
        command.args(["--threads", &arguments.threads.to_string()]);
        if rustix::process::geteuid().is_root() {
            command.uid(HOSTILE).gid(HOSTILE);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a flood")?;
        let mut flood = Self(child);
        let mut ready = [0; 6];
        let output = flood.0.stdout.as_mut().context("no output of the flood")?;
        output.read_exact(&mut ready).context("the flood ended before it began")?;
        Ok(flood)
    }

    /// Ends it; its requests a second.
    fn end(mut self) -> Result<f64> {
        drop(self.0.stdin.take());
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().context("no output of the flood")?).read_line(&mut line)?;
        ensure!(self.0.wait()?.success(), "the flood failed");
        Ok(line.trim().parse()?)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds that threads of the daemon ran: mediators, the one that takes requests, and all others together.
fn thread_times(mounted: &Mounted) -> Result<[f64; 3]> {
    let daemon = mounted.daemon_id().context("no daemon")?;
    let mut times = [0.0; 3];
    for thread in fs::read_dir(format!("/proc/{daemon}/task"))? {
        let path = thread?.path();
        // Threads end at any moment.
        let (Ok(name), Ok(stat)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        let place = match name.trim() {
            name if name.starts_with("mediator") => 0,
            name if name.starts_with("clients") => 1,
            _ => 2,
        };
        let nanoseconds: f64 = stat.split(' ').next().unwrap_or("0").parse()?;
        times[place] += nanoseconds / 1e9;
    }
    Ok(times)
}
