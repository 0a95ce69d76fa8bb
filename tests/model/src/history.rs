//! All records of a round, taken apart into cells, sizes and names, each of which must have an explanation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::record::{Act, Record, Way};
use crate::register::{Contradiction, Got, NEVER, Put, Read, Span, Write, check};
use crate::stamp::{Seen, WriteId};

/// Bytes of a cell. Whatever is done begins and ends at multiples.
pub(crate) const CELL: u64 = 64;
/// Cells that are looked at together.
const BLOCK: u64 = 512;

/// What has no explanation.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Where: a file or a name, and which part of it.
    pub place: String,
    /// Why.
    pub why: String,
    /// Those of the records that contradict each other.
    pub records: Vec<usize>,
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations.
    pub records: u64,
    /// Files.
    pub files: u64,
    /// Bytes that were read, by all ways.
    pub read: u64,
    /// Those of them that came through queues.
    pub queued: u64,
    /// Reads of single cells that were explained.
    pub judged: u64,
}

/// All that was done and seen in a round.
#[derive(Debug)]
pub struct History<'a> {
    records: &'a [Record],
    /// Where a write's words went: the file, and the first byte there.
    writes: HashMap<WriteId, (usize, u32, u64)>,
    by_file: BTreeMap<u32, Vec<usize>>,
}

fn span(record: &Record) -> Span {
    Span { begin: record.begin, end: if record.certain { record.end } else { NEVER } }
}

impl<'a> History<'a> {
    /// Of all records, in whatever order.
    #[must_use]
    pub fn new(records: &'a [Record]) -> Self {
        let (mut writes, mut by_file) = (HashMap::new(), BTreeMap::<u32, Vec<usize>>::new());
        for (number, record) in records.iter().enumerate() {
            if let Act::Write { id, offset, .. } = record.act {
                writes.insert(id, (number, record.file, offset));
            }
            by_file.entry(record.file).or_default().push(number);
        }
        Self { records, writes, by_file }
    }

    /// What has no explanation, as far as `most`.
    #[must_use]
    pub fn violations(&self, most: usize) -> (Vec<Violation>, Tally) {
        let mut found = Vec::new();
        let mut tally = Tally { records: self.records.len() as u64, ..Tally::default() };
        for (number, record) in self.records.iter().enumerate() {
            match &record.act {
                Act::Failed { what } => found.push(Violation {
                    place: format!("file {:x}", record.file),
                    why: what.clone(),
                    records: vec![number],
                }),
                Act::Read { runs, way, .. } => {
                    let bytes = runs.iter().map(|run| run.length).sum::<u64>();
                    tally.read += bytes;
                    tally.queued += if *way == Way::Queue { bytes } else { 0 };
                }
                _ => {}
            }
        }
        self.names(&mut found, most);
        for (&file, numbers) in &self.by_file {
            if file == 0 || found.len() >= most {
                continue;
            }
            tally.files += 1;
            self.sizes(file, numbers, &mut found, most);
            self.cells(file, numbers, &mut found, most, &mut tally);
        }
        found.truncate(most);
        (found, tally)
    }

    /// Names are registers as cells are: a file is bound to a name once.
    fn names(&self, found: &mut Vec<Violation>, most: usize) {
        let mut names: BTreeMap<u32, (Vec<Write>, Vec<Read>)> = BTreeMap::new();
        for (number, record) in self.records.iter().enumerate() {
            let (span, file) = (span(record), WriteId(record.file));
            let write = |put| Write { span, put, late: false, record: number };
            match record.act {
                Act::Bind { name } => names.entry(name).or_default().0.push(write(Put::Own(file))),
                Act::Unbind { name } => names.entry(name).or_default().0.push(write(Put::Zeros)),
                Act::Look { name } => {
                    let got = if record.file == 0 { Got::Zeros } else { Got::Own(file) };
                    names.entry(name).or_default().1.push(Read { span, got, record: number });
                }
                _ => {}
            }
        }
        for (name, (writes, reads)) in names {
            if let Err(Contradiction { why, records }) = check(&writes, &reads)
                && found.len() < most
            {
                found.push(Violation { place: format!("name {name}"), why: why.into(), records });
            }
        }
    }

    fn cells(
        &self,
        file: u32,
        numbers: &[usize],
        found: &mut Vec<Violation>,
        most: usize,
        tally: &mut Tally,
    ) {
        let end = numbers.iter().map(|&number| self.touched_end(number)).max().unwrap_or(0).div_ceil(CELL);
        for block in (0..end).step_by(BLOCK as usize) {
            let cells = block..(block + BLOCK).min(end);
            let mut parts: Vec<(Vec<Write>, Vec<Read>)> = cells.clone().map(|_| Default::default()).collect();
            for &number in numbers {
                self.sort_in(file, number, cells.start, &mut parts);
            }
            // Neighbours mostly break together: one of them says it.
            let mut told = BTreeSet::new();
            for (cell, (writes, reads)) in cells.zip(parts) {
                tally.judged += reads.len() as u64;
                let Err(Contradiction { why, records }) = check(&writes, &reads) else { continue };
                if found.len() < most && told.insert(records.first().copied()) {
                    let place = format!("file {file:x}, byte {}", cell * CELL);
                    found.push(Violation { place, why: self.in_words(why, &records, cell), records });
                }
            }
        }
    }

    /// What a read of no write's words found is worth telling.
    fn in_words(&self, why: &str, records: &[usize], cell: u64) -> String {
        let Some(Act::Read { runs, .. }) = records.first().map(|&number| &self.records[number].act) else {
            return why.into();
        };
        let seen = runs.iter().find(|run| (run.at..run.at + run.length).contains(&(cell * CELL)));
        match seen.map(|run| run.seen) {
            Some(Seen::Of(id, index)) => match self.writes.get(&id) {
                Some((_, file, offset)) => {
                    format!("{why}: words of write {id} to file {file:x}, byte {}", offset + index * 8)
                }
                None => format!("{why}: words of write {id}, which nobody made"),
            },
            Some(Seen::Unknown(word)) => {
                format!("{why}: {word:016x}, of an earlier round or what free space was filled with")
            }
            Some(Seen::Zeros) => format!("{why}: zeros"),
            None => format!("{why}: the file ended before"),
        }
    }

    /// The end of what a record says about single bytes.
    fn touched_end(&self, number: usize) -> u64 {
        match &self.records[number].act {
            Act::Write { offset, length, .. }
            | Act::Copy { offset, length, .. }
            | Act::Read { offset, length, .. } => offset + length,
            _ => 0,
        }
    }

    /// Adds a record to those of a block's cells that it touches.
    fn sort_in(&self, file: u32, number: usize, first: u64, parts: &mut [(Vec<Write>, Vec<Read>)]) {
        let record = &self.records[number];
        let (begin, end) = (first * CELL, (first + parts.len() as u64) * CELL);
        let range = |offset: u64, length: u64| {
            let (from, to) = (offset.max(begin), offset.saturating_add(length).min(end));
            // What has no whole cells does not exist but in a record of what must not be.
            (from / CELL..to.div_ceil(CELL)).map(move |cell| ((cell - first) as usize, cell * CELL))
        };
        let write = |put, late| Write { span: span(record), put, late, record: number };
        match &record.act {
            &Act::Write { way, id, offset, length } => {
                for (part, _) in range(offset, length) {
                    parts[part].0.push(write(Put::Own(id), way == Way::Direct));
                }
            }
            &Act::Copy { from, from_offset, offset, length } => {
                for (part, at) in range(offset, length) {
                    parts[part]
                        .0
                        .push(write(Put::Copied { file: from, at: at - offset + from_offset }, false));
                }
            }
            &Act::Cut { size } => {
                for (part, _) in range(size.div_ceil(CELL) * CELL, u64::MAX) {
                    parts[part].0.push(write(Put::Zeros, false));
                }
            }
            &Act::Clear { offset, length, .. } => {
                for (part, _) in range(offset, length) {
                    parts[part].0.push(write(Put::Zeros, false));
                }
            }
            Act::Read { offset, length, runs, .. } => {
                let read = |got| Read { span: span(record), got, record: number };
                for run in runs {
                    for (part, at) in range(run.at, run.length) {
                        let skip = at.saturating_sub(run.at);
                        parts[part].1.push(read(self.got(file, run.at, run.seen, skip)));
                    }
                }
                let had = runs.last().map_or(*offset, |run| run.at + run.length);
                // Past the end there is what zeros would be, were the file longer.
                for (part, _) in range(had.div_ceil(CELL) * CELL, (offset + length).saturating_sub(had)) {
                    parts[part].1.push(read(Got::Zeros));
                }
            }
            _ => {}
        }
    }

    /// What a cell within a run has: the run's words, wherever they were written.
    fn got(&self, file: u32, at: u64, seen: Seen, skip: u64) -> Got {
        /// No file is called so, and no copy is made of it.
        const NOWHERE: Got = Got::Copied { file: u32::MAX, at: 0, written: 0 };
        let Seen::Of(id, index) = seen else {
            return if seen == Seen::Zeros { Got::Zeros } else { NOWHERE };
        };
        let Some(&(number, written_to, offset)) = self.writes.get(&id) else { return NOWHERE };
        let home = offset + index * 8;
        if written_to == file && home == at {
            return Got::Own(id);
        }
        if written_to == file {
            return NOWHERE;
        }
        // The copy is looked for by where the cell begins, which may be before the run.
        Got::Copied { file: written_to, at: (home + skip) / CELL * CELL, written: self.records[number].begin }
    }

    /// Whether each end of file that was seen was the end at some moment then.
    fn sizes(&self, file: u32, numbers: &[usize], found: &mut Vec<Violation>, most: usize) {
        let mut sizes = Sizes::default();
        for &number in numbers {
            let record = &self.records[number];
            let reach = match record.act {
                // A mapping makes no file longer.
                Act::Write { way: Way::Mapped, .. } => continue,
                Act::Write { offset, length, .. } | Act::Copy { offset, length, .. } => offset + length,
                Act::Clear { offset, length, grows: true } => offset + length,
                Act::Grow { size } => size,
                Act::Cut { size } => {
                    sizes.cuts.push((size, span(record), number));
                    size
                }
                _ => continue,
            };
            sizes.reaches.push((reach, span(record), number));
        }
        for &number in numbers {
            let record = &self.records[number];
            let (end, has_end) = match &record.act {
                Act::Size { size } => (*size, true),
                // A mapping has whole pages.
                Act::Read { way: Way::Mapped, .. } => continue,
                Act::Read { offset, length, runs, .. } => {
                    let had = runs.last().map_or(*offset, |run| run.at + run.length);
                    // That a read of nothing got nothing does not say where the end is, only that it is before.
                    (had, had < offset + length)
                }
                _ => continue,
            };
            let at = |place| (place, span(record), number);
            let nothing = matches!(&record.act, Act::Read { runs, .. } if runs.is_empty());
            let absent = if has_end { sizes.ended_by(at(end)) } else { Ok(()) };
            let present = if end == 0 || nothing { Ok(()) } else { sizes.reached(at(end)) };
            for (why, other) in [absent, present].into_iter().filter_map(Result::err) {
                if found.len() < most {
                    let place = format!("file {file:x}, its end at byte {end}");
                    let records = [Some(number), other].into_iter().flatten().collect();
                    found.push(Violation { place, why: why.into(), records });
                }
            }
        }
    }
}

/// Where, when, and by which record.
type Mark = (u64, Span, usize);

/// What changes a file's size.
#[derive(Debug, Default)]
struct Sizes {
    /// What makes a file at least this long.
    reaches: Vec<Mark>,
    /// What makes it at most this long.
    cuts: Vec<Mark>,
}

/// Something that is wholly within a span.
fn within(marks: &[Mark], after: u64, before: u64, fits: impl Fn(u64) -> bool) -> Option<usize> {
    let found = marks.iter().find(|(place, span, _)| {
        fits(*place) && span.end != NEVER && after < span.begin && span.end < before
    });
    found.map(|&(_, _, number)| number)
}

impl Sizes {
    /// Whether the file can have ended at or before `end`.
    fn ended_by(&self, (end, seen, _): Mark) -> Result<(), (&'static str, Option<usize>)> {
        let cuts = self.cuts.iter().filter(|(size, span, _)| *size <= end && span.begin <= seen.end);
        let since = cuts.map(|(_, span, _)| span.end).max().unwrap_or(0);
        match within(&self.reaches, since, seen.begin, |reach| reach > end) {
            None => Ok(()),
            Some(number) => Err(("the file had been made longer before", Some(number))),
        }
    }

    /// Whether the file can have reached to `end`.
    fn reached(&self, (end, seen, _): Mark) -> Result<(), (&'static str, Option<usize>)> {
        let reaches = self.reaches.iter().filter(|(reach, span, _)| *reach >= end && span.begin <= seen.end);
        let Some(since) = reaches.map(|(_, span, _)| span.end).max() else {
            return Err(("the file never was that long", None));
        };
        match within(&self.cuts, since, seen.begin, |size| size < end) {
            None => Ok(()),
            Some(number) => Err(("the file had been cut before", Some(number))),
        }
    }
}
