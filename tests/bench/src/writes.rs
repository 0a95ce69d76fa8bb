//! Mounts that are written: the kernel's own beside ours, and reads by the engine beside those of a read-only mount.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::arguments::{Who, WriteArguments};
use crate::contender::{Mounted, Setting, homifs_program};
use crate::contents::{self, Contents};
use crate::load::reads::Caching::{Buffered, Direct};
use crate::load::writes::{self, Step};
use crate::load::{Done, reads, ring};
use crate::medium::Medium;
use crate::report::{machine, number, reached, right, table};
use crate::samples::Samples;

/// Who is measured, each on a device of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Kernel,
    Writable,
    /// A writable mount whose clean files the engine reads.
    Engine,
    ReadOnly,
    /// What FUSE leaves of the kernel's mount to anybody who passes everything through.
    Floor,
}

impl Side {
    const ALL: [Self; 5] = [Self::Kernel, Self::Writable, Self::Engine, Self::ReadOnly, Self::Floor];

    fn who(self) -> Who {
        match self {
            Self::Kernel => Who::Kernel,
            Self::Floor => Who::Floor,
            Self::Writable | Self::Engine | Self::ReadOnly => Who::Homifs,
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Kernel | Self::Writable | Self::Floor => "rw",
            Self::Engine => "rw,reads=engine",
            Self::ReadOnly => "ro",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Writable => "homifs rw",
            Self::Engine => "homifs rw, reads=engine",
            Self::ReadOnly => "homifs ro",
            Self::Floor => "FUSE floor",
        }
    }
}

struct Measurement {
    name: &'static str,
    unit: &'static str,
    /// Who is compared with whom.
    sides: [Side; 2],
    /// What the first shall reach of the second, where that is said.
    at_least: Option<f64>,
    run: fn(&Mounted, &WriteArguments, Duration) -> Result<Done>,
}

impl Measurement {
    fn measures(&self, side: Side) -> bool {
        self.sides.contains(&side) || (side == Side::Floor && self.sides == WRITERS)
    }
}

/// Beside the kernel, and beside what FUSE leaves of it.
const WRITERS: [Side; 2] = [Side::Writable, Side::Kernel];
const READERS: [Side; 2] = [Side::Engine, Side::ReadOnly];
/// Whoever mounts for writing and says nothing about reads.
const CHOOSERS: [Side; 2] = [Side::Writable, Side::ReadOnly];

/// Reads of volumes as they were made. All rounds of these come first: blocks that were overwritten again and again lie
/// elsewhere on the device, and are read otherwise.
const READS: &[Measurement] = &[
    Measurement {
        name: "4 KiB random reads, O_DIRECT",
        unit: "reads/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| reads::random(&on.root.path().join("data.bin"), Direct, 1, limit),
    },
    Measurement {
        name: "1 MiB sequential reads, O_DIRECT",
        unit: "MiB/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| reads::sequential(&on.root.path().join("data.bin"), Direct, limit),
    },
    Measurement {
        name: "4 KiB random reads, O_DIRECT, beside ro",
        unit: "reads/s",
        sides: CHOOSERS,
        at_least: Some(0.95),
        run: |on, _, limit| reads::random(&on.root.path().join("data.bin"), Direct, 1, limit),
    },
    Measurement {
        name: "1 MiB sequential reads, O_DIRECT, beside ro",
        unit: "MiB/s",
        sides: CHOOSERS,
        at_least: Some(0.95),
        run: |on, _, limit| reads::sequential(&on.root.path().join("data.bin"), Direct, limit),
    },
    Measurement {
        name: "4 KiB random by the engine, depth 1",
        unit: "reads/s",
        sides: READERS,
        at_least: Some(0.95),
        run: |on, _, limit| reads::random(&on.root.path().join("data.bin"), Direct, 1, limit),
    },
    Measurement {
        name: "4 KiB random by the engine, depth 32",
        unit: "reads/s",
        sides: READERS,
        at_least: Some(0.95),
        run: |on, _, limit| ring::random(&on.root.path().join("data.bin"), 32, limit),
    },
    Measurement {
        name: "1 MiB sequential by the engine",
        unit: "MiB/s",
        sides: READERS,
        at_least: Some(0.95),
        run: |on, _, limit| reads::sequential(&on.root.path().join("data.bin"), Direct, limit),
    },
    Measurement {
        name: "1 MiB sequential by the engine, io_uring",
        unit: "MiB/s",
        sides: READERS,
        at_least: Some(0.95),
        run: |on, _, limit| ring::sequential(&on.root.path().join("data.bin"), limit),
    },
];

/// What changes a volume, or reads what was changed.
const CHANGES: &[Measurement] = &[
    Measurement {
        name: "4 KiB random overwrites, buffered",
        unit: "writes/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| writes::mixed(&on.root.path().join("data.bin"), Buffered, 0, limit),
    },
    Measurement {
        name: "4 KiB random reads of an open file, buffered",
        unit: "reads/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| writes::mixed(&on.root.path().join("data.bin"), Buffered, 100, limit),
    },
    Measurement {
        name: "70 % reads, 30 % writes, buffered",
        unit: "ops/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| writes::mixed(&on.root.path().join("data.bin"), Buffered, 70, limit),
    },
    Measurement {
        name: "70 % reads, 30 % writes, O_DIRECT",
        unit: "ops/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| writes::mixed(&on.root.path().join("data.bin"), Direct, 70, limit),
    },
    Measurement {
        name: "1 MiB sequential overwrites, buffered",
        unit: "MiB/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| writes::sequential(&on.root.path().join("data.bin"), Buffered, limit),
    },
    Measurement {
        name: "1 MiB sequential overwrites, O_DIRECT",
        unit: "MiB/s",
        sides: WRITERS,
        at_least: Some(0.95),
        run: |on, _, limit| writes::sequential(&on.root.path().join("data.bin"), Direct, limit),
    },
    Measurement {
        name: "4 KiB appended and fsynced",
        unit: "fsyncs/s",
        sides: WRITERS,
        at_least: None,
        run: |on, _, limit| writes::durable(on.root.path(), limit),
    },
    Measurement {
        name: "files made",
        unit: "files/s",
        sides: WRITERS,
        at_least: None,
        run: |on, with, _| writes::lives(on.root.path(), Step::Create, with.files),
    },
    Measurement {
        name: "files looked at, caches dropped",
        unit: "stats/s",
        sides: WRITERS,
        at_least: None,
        run: |on, with, _| writes::lives(on.root.path(), Step::Stat, with.files),
    },
    Measurement {
        name: "files removed",
        unit: "files/s",
        sides: WRITERS,
        at_least: None,
        run: |on, with, _| writes::lives(on.root.path(), Step::Unlink, with.files),
    },
];

/// By the name of the measurement and the place of the side.
type Results = BTreeMap<(&'static str, usize), Samples>;

/// Runs the measurements and prints the table.
pub(crate) fn run(arguments: &WriteArguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "mounting needs root");
    let contents = Contents { data_mib: arguments.data_mib, ..Contents::default() };
    let media: Vec<Medium> = Side::ALL
        .iter()
        .map(|_| {
            let medium = Medium::zram((arguments.data_mib + 1024) << 20)?;
            contents::make(medium.device(), arguments.format, &contents)?;
            Ok(medium)
        })
        .collect::<Result<_>>()?;
    let mut results = Results::new();
    for list in [READS, CHANGES] {
        for round in 0..arguments.rounds {
            // Where a device's memory lies makes it faster or slower by a fifth; each side has each of them in turn.
            let devices = media.iter().cycle().skip(round % media.len());
            let mounted: Vec<Mounted> = Side::ALL
                .into_iter()
                .zip(devices)
                .map(|(side, medium)| side.who().mount(&setting(side, medium, arguments)))
                .collect::<Result<_>>()?;
            for measurement in list {
                measure(measurement, &mounted, arguments, &mut results)?;
            }
        }
    }
    print(arguments, &results);
    Ok(())
}

fn setting(side: Side, medium: &Medium, arguments: &WriteArguments) -> Setting {
    let options = match side {
        Side::Engine if !arguments.options.is_empty() => format!("{},{}", side.options(), arguments.options),
        _ => side.options().to_owned(),
    };
    Setting {
        format: arguments.format,
        device: medium.device().to_owned(),
        homifs: homifs_program(arguments.homifs.as_deref()),
        options,
        data_mib: arguments.data_mib,
        names: 0,
    }
}

/// One round of one row, where it is wanted.
fn measure(
    measurement: &Measurement,
    mounted: &[Mounted],
    arguments: &WriteArguments,
    results: &mut Results,
) -> Result<()> {
    if !arguments.only.is_empty() && !arguments.only.iter().any(|part| measurement.name.contains(part)) {
        return Ok(());
    }
    let limit = Duration::from_secs_f64(arguments.seconds);
    // One after the other, so that what disturbs the machine disturbs both.
    for (place, (side, on)) in Side::ALL.into_iter().zip(mounted).enumerate() {
        if !measurement.measures(side) {
            continue;
        }
        (measurement.run)(on, arguments, Duration::from_millis(30))?;
        let done = (measurement.run)(on, arguments, limit)?;
        ensure!(done.count > 0, "{} did nothing", side.label());
        results.entry((measurement.name, place)).or_default().push(done.per_second);
    }
    Ok(())
}

fn print(arguments: &WriteArguments, results: &Results) {
    println!(
        "{} on zram, {} rounds of {} s\n{}\n",
        arguments.format.name(),
        arguments.rounds,
        arguments.seconds,
        machine()
    );
    let place = |wanted: Side| Side::ALL.iter().position(|&side| side == wanted).unwrap_or(0);
    let header =
        ["what", "who", "median", "beside", "median", "unit", "ratio", "to reach", "reached", "of the floor"];
    let mut list = table(&header);
    for measurement in READS.iter().chain(CHANGES) {
        let ([ours, theirs], name) = (measurement.sides, measurement.name);
        let given = results.get(&(name, place(ours))).zip(results.get(&(name, place(theirs))));
        let Some((first, second)) = given else { continue };
        let Some(ratio) = first.ratio_to(second) else { continue };
        let floor = results.get(&(name, place(Side::Floor))).and_then(|floor| first.ratio_to(floor));
        list.add_row(vec![
            name.into(),
            ours.label().into(),
            right(first.median().map_or(String::new(), number)),
            theirs.label().into(),
            right(second.median().map_or(String::new(), number)),
            measurement.unit.into(),
            right(format!("{ratio:.2}x")),
            right(measurement.at_least.map_or(String::new(), |least| format!("{least:.2}x"))),
            measurement.at_least.map_or("", |least| reached(ratio >= least)).into(),
            right(floor.map_or(String::new(), |ratio| format!("{ratio:.2}x"))),
        ]);
    }
    println!("{list}");
}
