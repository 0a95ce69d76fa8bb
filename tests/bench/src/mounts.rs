//! Measurements through mounts, in interleaved rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::arguments::{Format, MountArguments, Who};
use crate::contender::{Mounted, Setting, homifs_program};
use crate::contents::{self, Contents};
use crate::load::reads::Caching::{Buffered, Direct};
use crate::load::{Done, namespace, reads, ring};
use crate::medium::Medium;
use crate::report::{machine, number, reached, right, table};
use crate::samples::Samples;
use crate::targets;

/// One thing that is measured.
struct Measurement {
    name: &'static str,
    unit: &'static str,
    /// Whether a short run that does not count goes before.
    warm_up: bool,
    run: fn(&Mounted, &MountArguments, Duration) -> Result<Done>,
}

const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        name: "stat, each name once",
        unit: "stats/s",
        warm_up: false,
        run: |on, with, limit| namespace::stat(&on.root.path().join("big"), with.names, 11, limit),
    },
    Measurement {
        name: "4 KiB random, depth 1",
        unit: "reads/s",
        warm_up: true,
        run: |on, _, limit| reads::random(&on.root.path().join("data.bin"), Direct, 1, limit),
    },
    Measurement {
        name: "4 KiB random, depth 32",
        unit: "reads/s",
        warm_up: true,
        run: |on, _, limit| ring::random(&on.root.path().join("data.bin"), 32, limit),
    },
    Measurement {
        name: "4 KiB random, 8 threads",
        unit: "reads/s",
        warm_up: true,
        run: |on, _, limit| reads::random(&on.root.path().join("data.bin"), Direct, 8, limit),
    },
    Measurement {
        name: "4 KiB random, buffered, cold",
        unit: "reads/s",
        warm_up: false,
        run: |on, _, limit| reads::random(&on.root.path().join("data.bin"), Buffered, 1, limit),
    },
    Measurement {
        name: "1 MiB sequential",
        unit: "MiB/s",
        warm_up: true,
        run: |on, _, limit| reads::sequential(&on.root.path().join("data.bin"), Direct, limit),
    },
    Measurement {
        name: "1 MiB sequential, buffered, cold",
        unit: "MiB/s",
        warm_up: false,
        run: |on, _, limit| reads::sequential(&on.root.path().join("data.bin"), Buffered, limit),
    },
    Measurement {
        name: "open and close",
        unit: "pairs/s",
        warm_up: false,
        run: |on, with, limit| namespace::open_close(&on.root.path().join("big"), with.names, limit),
    },
    Measurement {
        name: "readdir",
        unit: "names/s",
        warm_up: false,
        run: |on, with, _| namespace::list(&on.root.path().join("big"), with.names, false),
    },
    Measurement {
        name: "readdir and stat",
        unit: "names/s",
        warm_up: false,
        run: |on, with, _| namespace::list(&on.root.path().join("big"), with.names, true),
    },
    Measurement {
        name: "stat, caches dropped",
        unit: "stats/s",
        warm_up: false,
        run: |on, with, limit| {
            // Dentries and inodes of the kernel go; what a daemon keeps, stays.
            std::fs::write("/proc/sys/vm/drop_caches", "2")?;
            namespace::stat(&on.root.path().join("big"), with.names, 13, limit)
        },
    },
];

/// What somebody gave in one measurement.
#[derive(Debug, Default)]
struct Given {
    rates: Samples,
    /// Microseconds of the daemon's CPU for each operation.
    daemon_cpu: Samples,
    /// Microseconds of our own CPU for each operation: the kernel's part that runs in the reader, and the reader.
    own_cpu: Samples,
}

type Results = BTreeMap<(usize, usize), Given>;

/// Whether somebody takes part in a measurement at all.
fn takes_part(who: Who, measurement: &Measurement, format: Format) -> bool {
    match who {
        // It searches a directory from its beginning for each name: minutes.
        Who::Fuse2fs => format == Format::Ext4 && measurement.name != "readdir and stat",
        _ => true,
    }
}

fn own_cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Runs the measurements and prints the tables.
pub(crate) fn run(arguments: &MountArguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "mounting needs root");
    let everybody = [Who::Kernel, Who::Fuse2fs, Who::Homifs, Who::Soft, Who::VfioUser, Who::Ceiling];
    let who: Vec<Who> = everybody
        .into_iter()
        .filter(|who| arguments.who.is_empty() || arguments.who.contains(who))
        .filter(|&who| who != Who::Fuse2fs || arguments.format == Format::Ext4)
        .collect();
    let contents = Contents { data_mib: arguments.data_mib, names: arguments.names, ..Contents::default() };
    let size = (arguments.data_mib + 1024) << 20;
    let medium = match &arguments.image {
        Some(image) => Medium::image(image, size)?,
        None => Medium::zram(size)?,
    };
    contents::make(medium.device(), arguments.format, &contents)?;
    let setting = Setting {
        format: arguments.format,
        device: medium.device().to_owned(),
        homifs: homifs_program(arguments.homifs.as_deref()),
        options: arguments.options.clone(),
        data_mib: arguments.data_mib,
        names: arguments.names,
    };
    let limit = Duration::from_secs_f64(arguments.seconds);
    let mut results = Results::new();
    for _ in 0..arguments.rounds {
        for (place, &who) in who.iter().enumerate() {
            let mounted = who.mount(&setting)?;
            for (index, measurement) in MEASUREMENTS.iter().enumerate() {
                let wanted = arguments.only.is_empty()
                    || arguments.only.iter().any(|part| measurement.name.contains(part.as_str()));
                if !wanted || !takes_part(who, measurement, arguments.format) {
                    continue;
                }
                if measurement.warm_up {
                    // Workers open their queues with their first read.
                    (measurement.run)(&mounted, arguments, Duration::from_millis(50))?;
                }
                let (cpu_before, own_before) = (mounted.cpu_seconds(), own_cpu_seconds());
                let done = (measurement.run)(&mounted, arguments, limit)?;
                let given = results.entry((index, place)).or_default();
                given.rates.push(done.per_second);
                given.own_cpu.push((own_cpu_seconds() - own_before) * 1e6 / done.count as f64);
                if let (Some(before), Some(after)) = (cpu_before, mounted.cpu_seconds()) {
                    given.daemon_cpu.push((after - before) * 1e6 / done.count as f64);
                }
            }
        }
    }
    print_rates(arguments, &who, &results, medium.describe());
    print_targets(arguments.format, &who, &results);
    Ok(())
}

fn print_rates(arguments: &MountArguments, who: &[Who], results: &Results, medium: &str) {
    println!(
        "{} on {medium}, {} rounds of {} s, {} names in the large directory\n{}\n",
        arguments.format.name(),
        arguments.rounds,
        arguments.seconds,
        arguments.names,
        machine()
    );
    let ours = who.iter().position(|&who| who == Who::Homifs);
    let mut rates = table(&[
        "what",
        "who",
        "min",
        "median",
        "max",
        "unit",
        "reader us/op",
        "daemon us/op",
        "homifs against it",
    ]);
    for (&(index, place), given) in results {
        let Some((min, median, max)) = given.rates.spread() else { continue };
        let ratio = ours
            .filter(|&ours| ours != place)
            .and_then(|ours| results.get(&(index, ours))?.rates.ratio_to(&given.rates))
            .map_or(String::new(), |ratio| format!("{ratio:.2}x"));
        let measurement = &MEASUREMENTS[index];
        rates.add_row(vec![
            measurement.name.into(),
            who[place].label(arguments.format).into(),
            right(number(min)),
            right(number(median)),
            right(number(max)),
            measurement.unit.into(),
            right(given.own_cpu.median().map_or(String::new(), number)),
            right(given.daemon_cpu.median().map_or(String::new(), number)),
            right(ratio),
        ]);
    }
    println!("{rates}\n");
}

fn print_targets(format: Format, who: &[Who], results: &Results) {
    let place = |wanted: Who| who.iter().position(|&who| who == wanted);
    let Some(ours) = place(Who::Homifs) else { return };
    let mut list = table(&["what", "against", "to reach", "measured", "reached"]);
    for target in targets::for_format(format) {
        let index = MEASUREMENTS.iter().position(|measurement| measurement.name == target.measurement);
        let ratio = index.zip(place(target.against)).and_then(|(index, theirs)| {
            results.get(&(index, ours))?.rates.ratio_to(&results.get(&(index, theirs))?.rates)
        });
        let Some(ratio) = ratio else { continue };
        list.add_row(vec![
            target.measurement.into(),
            target.against.label(format).into(),
            right(format!("{:.2}x", target.at_least)),
            right(format!("{ratio:.2}x")),
            reached(ratio >= target.at_least).into(),
        ]);
    }
    for who in [Who::Soft, Who::VfioUser] {
        if let Some(through) = place(who) {
            add_engine_cost(&mut list, results, ours, (through, who.label(format)));
        }
    }
    println!("{list}");
}

/// What a controller on the way costs a single read, in microseconds: the median of the rounds' differences.
fn add_engine_cost(
    list: &mut comfy_table::Table,
    results: &Results,
    ours: usize,
    (through, label): (usize, &str),
) {
    let name = targets::SOFT_MEASUREMENT;
    let Some(index) = MEASUREMENTS.iter().position(|measurement| measurement.name == name) else { return };
    let rates = |place| Some(&results.get(&(index, place))?.rates);
    let Some(more) = rates(through).zip(rates(ours)).and_then(|(theirs, ours)| theirs.longer_than(ours))
    else {
        return;
    };
    let bound = (label == Who::Soft.label(Format::Ext4)).then_some(targets::SOFT_MORE_MICROSECONDS);
    list.add_row(vec![
        format!("{name}: {label} costs more than direct").into(),
        "homifs".into(),
        right(bound.map_or(String::new(), |most| format!("{most:.1} us"))),
        right(format!("{more:.1} us")),
        bound.map_or("", |most| reached(more <= most)).into(),
    ]);
}
