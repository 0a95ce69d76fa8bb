//! The parsers alone, on an image that is in the page cache.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use extents_core::{BlockRead, ExtentMap, FileSystem, Flow, Ino, ReadError};
use homifs_options::MountOptions;
use rustix::time::{ClockId, clock_gettime};

use crate::arguments::{Format, ParserArguments};
use crate::contents::{self, Contents, FILES_EACH};
use crate::generator::Generator;
use crate::report::{machine, number, reached, right, table};
use crate::samples::Samples;

/// An image file, read by pread.
struct Image {
    file: File,
    size: u64,
}

impl BlockRead for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, buf.len() as u64))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

fn open(path: &Path, format: Format) -> Result<Box<dyn FileSystem>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let image = Image { file, size };
    // As much as a mount has where it is not told otherwise.
    let cache_bytes = MountOptions::default().cache;
    Ok(match format {
        Format::Ext4 => {
            let options = extents_ext4::OpenOptions { cache_bytes, ..Default::default() };
            Box::new(extents_ext4::Ext4::open(image, &options)?)
        }
        Format::Xfs => {
            let options = extents_xfs::OpenOptions { cache_bytes, ..Default::default() };
            Box::new(extents_xfs::Xfs::open(image, &options)?)
        }
    })
}

/// CPU time of this thread in nanoseconds: what other programs do on the machine does not count.
fn cpu_nanoseconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Reads every directory below `start` and attributes and map of everything in it; gives the number of inodes.
fn walk(volume: &dyn FileSystem, start: Ino) -> Result<u64> {
    let mut seen = 0;
    let mut directories = vec![start];
    let mut inodes = Vec::new();
    while let Some(directory) = directories.pop() {
        volume.read_dir(directory, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                inodes.push(entry.ino);
            }
            Flow::Continue(())
        })?;
        for ino in inodes.drain(..) {
            let (metadata, map) = volume.inspect(ino)?;
            black_box(map);
            seen += 1;
            if metadata.is_directory() {
                directories.push(ino);
            }
        }
    }
    Ok(seen)
}

fn find(volume: &dyn FileSystem, name: &str) -> Result<Ino> {
    let found = volume.lookup(volume.root(), name.as_bytes())?;
    found.with_context(|| format!("the image has no {name}; it was made for something else"))
}

/// Nanoseconds of CPU for each lookup of a random name.
fn lookup(volume: &dyn FileSystem, directory: Ino, names: &[String]) -> Result<f64> {
    let start = cpu_nanoseconds();
    for name in names {
        ensure!(volume.lookup(directory, name.as_bytes())?.is_some(), "{name} is missing");
    }
    Ok((cpu_nanoseconds() - start) / names.len() as f64)
}

/// Nanoseconds of CPU for each search of a random byte.
fn extent_lookup(map: &ExtentMap) -> f64 {
    const SEARCHES: u64 = 1_000_000;
    let mut generator = Generator::new(5);
    let offsets: Vec<u64> = (0..SEARCHES).map(|_| generator.below(map.size())).collect();
    let start = cpu_nanoseconds();
    for &offset in &offsets {
        black_box(map.find(offset));
    }
    (cpu_nanoseconds() - start) / SEARCHES as f64
}

#[derive(Default)]
struct Measured {
    walk_cold: Samples,
    walk_warm: Samples,
    metadata: Samples,
    lookup: Samples,
    load_map: Samples,
    extent_lookup: Samples,
    inodes: u64,
    map_bytes: u64,
    map_extents: usize,
}

fn measure(path: &Path, arguments: &ParserArguments, into: &mut Measured) -> Result<()> {
    let volume = open(path, arguments.format)?;
    let volume = &*volume;
    let tree = find(volume, "tree")?;
    for samples in [&mut into.walk_cold, &mut into.walk_warm] {
        let start = cpu_nanoseconds();
        into.inodes = walk(volume, tree)?;
        samples.push(into.inodes as f64 / (cpu_nanoseconds() - start) * 1e9);
    }

    let big = find(volume, "big")?;
    let order = Generator::new(3).permutation(arguments.names);
    let names: Vec<String> = order.into_iter().map(contents::name).collect();
    lookup(volume, big, &names)?;
    into.lookup.push(lookup(volume, big, &names)?);
    let inodes: Vec<Ino> = names
        .iter()
        .filter_map(|name| volume.lookup(big, name.as_bytes()).transpose())
        .collect::<Result<_, _>>()?;
    for round in 0..2 {
        let start = cpu_nanoseconds();
        for &ino in &inodes {
            black_box(volume.metadata(ino)?);
        }
        if round > 0 {
            into.metadata.push((cpu_nanoseconds() - start) / inodes.len() as f64);
        }
    }

    let fragments = find(volume, "fragments.bin")?;
    let start = cpu_nanoseconds();
    let map = volume.extents(fragments)?;
    into.load_map.push((cpu_nanoseconds() - start) / 1e6);
    into.map_bytes = map.memory();
    into.map_extents = map.len();
    into.extent_lookup.push(extent_lookup(&map));
    Ok(())
}

/// Makes the image where there is none, measures and prints the table.
pub(crate) fn run(arguments: &ParserArguments) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = arguments.image.clone().unwrap_or_else(|| directory.path().join("volume.img"));
    if !path.exists() {
        File::create(&path)?.set_len(4 << 30)?;
        let contents = Contents {
            names: arguments.names,
            directories: arguments.directories,
            extents: arguments.extents,
            data_mib: 0,
        };
        contents::make(&path, arguments.format, &contents)?;
    }
    let mut measured = Measured::default();
    // One round for the page cache.
    measure(&path, arguments, &mut Measured::default())?;
    for _ in 0..arguments.rounds {
        measure(&path, arguments, &mut measured)?;
    }
    print(arguments, &measured);
    Ok(())
}

fn print(arguments: &ParserArguments, measured: &Measured) {
    println!(
        "{} parser on a page-cached image, {} rounds, CPU time of one thread\n{}\n",
        arguments.format.name(),
        arguments.rounds,
        machine()
    );
    let mut list = table(&["what", "min", "median", "max", "unit", "to reach", "reached"]);
    let at_least = |figure: f64| (format!(">= {}", number(figure)), move |value: f64| value >= figure);
    let at_most = |figure: f64| (format!("<= {}", number(figure)), move |value: f64| value <= figure);
    let mut row = |what: String, samples: &Samples, unit: &str, target: Option<(String, bool)>| {
        let Some((min, median, max)) = samples.spread() else { return };
        let (to_reach, yes) = target.map_or((String::new(), ""), |(text, yes)| (text, reached(yes)));
        list.add_row(vec![
            what.into(),
            right(number(min)),
            right(number(median)),
            right(number(max)),
            unit.into(),
            right(to_reach),
            yes.into(),
        ]);
    };
    let judge_least = |samples: &Samples, figure: f64| {
        let (text, judge) = at_least(figure);
        Some((text, samples.median().is_some_and(judge)))
    };
    let judge_most = |samples: &Samples, figure: f64| {
        let (text, judge) = at_most(figure);
        Some((text, samples.median().is_some_and(judge)))
    };
    let tree = format!("{} directories of {FILES_EACH}", arguments.directories);
    row(
        format!("walk with maps, {tree}, volume just opened"),
        &measured.walk_cold,
        "inodes/s and core",
        judge_least(&measured.walk_cold, 1e6),
    );
    row("the same again, same volume".into(), &measured.walk_warm, "inodes/s and core", None);
    row(
        format!("lookup, {} names, warm", arguments.names),
        &measured.lookup,
        "ns",
        judge_most(&measured.lookup, 2000.0),
    );
    row("metadata of an inode, random, warm".into(), &measured.metadata, "ns", None);
    row(
        format!("extent lookup, {} extents, random", measured.map_extents),
        &measured.extent_lookup,
        "ns",
        judge_most(&measured.extent_lookup, 100.0),
    );
    row("reading that map from the volume".into(), &measured.load_map, "ms", None);
    let memory = Samples(vec![measured.map_bytes as f64 / 1e6]);
    row("memory of that map".into(), &memory, "MB", judge_most(&memory, 3.2));
    println!("{list}");
}
