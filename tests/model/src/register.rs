//! Whether what was seen of one cell has an explanation.
//!
//! A cell is a register: writes put values in, reads tell what is there, and each happens at one moment between its
//! beginning and its end. Values that only one write can have put there are checked exactly, by zones (Gibbons and Korach,
//! "Testing Shared Memories", 1997): from the first end to the last beginning of all that has to do with a value, the
//! value is there, so no two of these spans may overlap, and nothing else can lie wholly within one. Values that several
//! writes could have put there (zeros, copies) are given to each of these in turn, and one must do.

use std::collections::BTreeMap;

use crate::stamp::WriteId;

/// A moment in nanoseconds; all processes of a machine have the same.
pub type Moment = u64;

/// The end of what has none that is certain: a write that failed and may have done some of its work.
pub const NEVER: Moment = u64::MAX;

/// From the call to its return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Just before.
    pub begin: Moment,
    /// Just after.
    pub end: Moment,
}

/// What a write puts into a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Its own words.
    Own(WriteId),
    /// Zeros.
    Zeros,
    /// Whatever another file has at a place, as a copy does.
    Copied {
        /// That file.
        file: u32,
        /// First byte of the cell's there.
        at: u64,
    },
}

/// A write.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// When.
    pub span: Span,
    /// What.
    pub put: Put,
    /// Whether a read that has seen it may be followed by one that has not, until it is over: a write past the page cache.
    pub late: bool,
    /// Which record tells of it.
    pub record: usize,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// Words of a write to this place.
    Own(WriteId),
    /// Zeros, or the file's end.
    Zeros,
    /// Words that were written to a place of another file, not before this moment.
    Copied {
        /// That file.
        file: u32,
        /// Where the cell would begin there.
        at: u64,
        /// When the write of these words began.
        written: Moment,
    },
}

/// A read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// When.
    pub span: Span,
    /// What it found.
    pub got: Got,
    /// Which record tells of it.
    pub record: usize,
}

/// What has no explanation, and the records that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// Why.
    pub why: &'static str,
    /// Who: the one that is judged first.
    pub records: Vec<usize>,
}

/// From the first end to the last beginning: the value is there for certain. Where the end is the later one, it is there at
/// some moment between.
#[derive(Debug, Clone)]
struct Zone {
    /// The first end of all that has to do with the value.
    first: Moment,
    /// The last beginning.
    last: Moment,
    records: Vec<usize>,
}

impl Zone {
    fn of(write: &Write) -> Self {
        Self { first: write.span.end, last: write.span.begin, records: vec![write.record] }
    }

    fn add(&mut self, read: &Read, late: bool) {
        // Only what tells something is worth telling.
        if !late && read.span.end < self.first {
            self.first = read.span.end;
            self.records.push(read.record);
        }
        if read.span.begin > self.last {
            self.last = read.span.begin;
            self.records.push(read.record);
        }
    }

    fn is_forward(&self) -> bool {
        self.first < self.last
    }
}

/// Zones in the order in which they are looked for.
#[derive(Debug, Default)]
struct Zones {
    /// Those that are certain, by their beginning.
    forward: Vec<Zone>,
    /// The others, by their beginning, which is `last`.
    backward: Vec<Zone>,
}

fn contradiction(why: &'static str, zones: [&Zone; 2]) -> Contradiction {
    let mut records: Vec<usize> = zones.iter().flat_map(|zone| zone.records.iter().copied()).collect();
    records.dedup();
    Contradiction { why, records }
}

impl Zones {
    fn new(zones: Vec<Zone>) -> Result<Self, Contradiction> {
        let (mut forward, mut backward): (Vec<_>, Vec<_>) = zones.into_iter().partition(Zone::is_forward);
        forward.sort_by_key(|zone| zone.first);
        backward.sort_by_key(|zone| zone.last);
        for pair in forward.windows(2) {
            if pair[1].first < pair[0].last {
                return Err(contradiction("two values were there at the same time", [&pair[1], &pair[0]]));
            }
        }
        let zones = Self { forward, backward };
        for zone in &zones.backward {
            if let Some(around) = zones.around(zone.last, zone.first) {
                return Err(contradiction(
                    "it was there all the time that something else was",
                    [around, zone],
                ));
            }
        }
        Ok(zones)
    }

    /// The certain zone that holds all of this span.
    fn around(&self, begin: Moment, end: Moment) -> Option<&Zone> {
        let before = self.forward.partition_point(|zone| zone.first < begin);
        self.forward[..before].last().filter(|zone| end < zone.last)
    }

    /// Why a value that is no write's own cannot be as `zone` says.
    fn contradict(&self, zone: &Zone) -> Option<Contradiction> {
        if !zone.is_forward() {
            let around = self.around(zone.last, zone.first)?;
            return Some(contradiction("another value was there all the time", [zone, around]));
        }
        let before = self.forward.partition_point(|other| other.first < zone.last);
        if let Some(other) = self.forward[..before].last().filter(|other| zone.first < other.last) {
            return Some(contradiction("another value was there meanwhile", [zone, other]));
        }
        let after = self.backward.partition_point(|other| other.last <= zone.first);
        // Whatever else could have put the same value there is tried by itself.
        let mut within = self.backward[after..].iter().take_while(|other| other.last < zone.last);
        let other = within.find(|other| other.first < zone.last)?;
        Some(contradiction("it was overwritten before", [zone, other]))
    }
}

/// Whether all that was seen of a cell has an explanation. The cell is zero from the beginning of time on.
///
/// # Errors
/// What has none.
pub fn check(writes: &[Write], reads: &[Read]) -> Result<(), Contradiction> {
    let mut own: BTreeMap<WriteId, (Zone, &Write)> = BTreeMap::new();
    let mut zones = Vec::new();
    for write in writes {
        match write.put {
            Put::Own(id) => {
                own.insert(id, (Zone::of(write), write));
            }
            Put::Zeros | Put::Copied { .. } if write.span.end != NEVER => zones.push(Zone::of(write)),
            Put::Zeros | Put::Copied { .. } => {}
        }
    }
    for read in reads {
        let Got::Own(id) = read.got else { continue };
        let Some((zone, write)) = own.get_mut(&id) else {
            return Err(Contradiction { why: "no such write touched this cell", records: vec![read.record] });
        };
        if read.span.end < write.span.begin {
            let records = vec![read.record, write.record];
            return Err(Contradiction { why: "it was read before it was written", records });
        }
        zone.add(read, write.late);
    }
    // What failed and was never seen may never have been there.
    zones.extend(own.into_values().map(|(zone, _)| zone).filter(|zone| zone.first != NEVER));
    let zones = Zones::new(zones)?;
    for read in reads {
        explain(&zones, writes, read)?;
    }
    Ok(())
}

/// Looks for a write that explains what is no write's own.
fn explain(zones: &Zones, writes: &[Write], read: &Read) -> Result<(), Contradiction> {
    let fits = |write: &&Write| {
        let put = match (read.got, write.put) {
            (Got::Zeros, Put::Zeros | Put::Copied { .. }) => true,
            (Got::Copied { file, at, written }, Put::Copied { file: from, at: place }) => {
                file == from && at == place && written <= write.span.end
            }
            _ => false,
        };
        put && write.span.begin <= read.span.end
    };
    let mut why = match read.got {
        Got::Own(_) => return Ok(()),
        Got::Zeros => {
            let nothing = Zone { first: 0, last: read.span.begin, records: vec![read.record] };
            match zones.contradict(&nothing) {
                None => return Ok(()),
                Some(why) => why,
            }
        }
        Got::Copied { .. } => Contradiction {
            why: "no copy can have brought another file's bytes here",
            records: vec![read.record],
        },
    };
    // The one that ended last says most, and is the likeliest to do.
    let mut candidates: Vec<&Write> = writes.iter().filter(fits).collect();
    candidates.sort_by_key(|write| std::cmp::Reverse(write.span.end));
    for (number, write) in candidates.into_iter().enumerate() {
        let mut zone = Zone::of(write);
        zone.add(read, write.late);
        zone.records = vec![read.record, write.record];
        match zones.contradict(&zone) {
            None => return Ok(()),
            Some(other) if number == 0 => why = other,
            Some(_) => {}
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WriteId = WriteId(1);
    const B: WriteId = WriteId(2);

    fn write(put: Put, begin: Moment, end: Moment) -> Write {
        Write { span: Span { begin, end }, put, late: false, record: usize::try_from(begin).unwrap() }
    }

    fn own(id: WriteId, begin: Moment, end: Moment) -> Write {
        write(Put::Own(id), begin, end)
    }

    fn read(got: Got, begin: Moment, end: Moment) -> Read {
        Read { span: Span { begin, end }, got, record: usize::try_from(begin).unwrap() }
    }

    fn why(writes: &[Write], reads: &[Read]) -> &'static str {
        check(writes, reads).map_or_else(|contradiction| contradiction.why, |()| "")
    }

    #[test]
    fn reads_in_an_order_that_writes_can_have_had_are_accepted() {
        let writes = [own(A, 10, 40), own(B, 20, 50), write(Put::Zeros, 60, 70)];
        let reads = [
            read(Got::Zeros, 1, 5),
            read(Got::Zeros, 11, 12),
            // B before A, though A began first.
            read(Got::Own(B), 21, 25),
            read(Got::Own(A), 30, 35),
            read(Got::Own(A), 51, 65),
            read(Got::Zeros, 66, 67),
            read(Got::Zeros, 80, 90),
        ];
        assert_eq!(check(&writes, &reads), Ok(()));
    }

    #[test]
    fn value_that_was_overwritten_is_rejected() {
        let writes = [own(A, 10, 20), own(B, 30, 40)];
        assert_eq!(why(&writes, &[read(Got::Own(A), 35, 45)]), "");
        let stale = why(&writes, &[read(Got::Own(A), 41, 45)]);
        assert_eq!(stale, "it was there all the time that something else was");
    }

    #[test]
    fn zeros_of_a_file_that_was_written_are_rejected() {
        let writes = [own(A, 10, 20)];
        assert_eq!(why(&writes, &[read(Got::Zeros, 15, 25)]), "");
        assert_eq!(why(&writes, &[read(Got::Zeros, 21, 25)]), "it was overwritten before");
    }

    #[test]
    fn what_was_cut_off_is_rejected_after_that() {
        let writes = [own(A, 10, 20), write(Put::Zeros, 30, 40)];
        assert_eq!(why(&writes, &[read(Got::Own(A), 39, 45)]), "");
        assert_ne!(why(&writes, &[read(Got::Own(A), 41, 45)]), "");
    }

    #[test]
    fn old_value_after_the_new_one_was_seen_is_rejected() {
        // Both reads are within the second write, so each alone would do.
        let writes = [own(A, 10, 20), own(B, 30, 100)];
        let reads = [read(Got::Own(B), 40, 50), read(Got::Own(A), 60, 70)];
        assert_eq!(why(&writes, &reads), "it was there all the time that something else was");
        let late = [writes[0], Write { late: true, ..writes[1] }];
        assert_eq!(why(&late, &reads), "", "past the page cache this is as it is");
    }

    #[test]
    fn value_that_comes_back_is_rejected() {
        let writes = [own(A, 10, 100), own(B, 10, 100)];
        let reads = [read(Got::Own(A), 20, 21), read(Got::Own(B), 30, 31), read(Got::Own(A), 40, 41)];
        assert_ne!(why(&writes, &reads), "");
        assert_eq!(why(&writes, &reads[..2]), "");
    }

    #[test]
    fn zeros_between_two_reads_of_a_value_are_rejected() {
        let reads = [read(Got::Own(A), 30, 35), read(Got::Zeros, 40, 45), read(Got::Own(A), 50, 55)];
        let begun = write(Put::Zeros, 32, 90);
        assert_ne!(why(&[own(A, 10, 20), begun], &reads), "");
        assert_eq!(why(&[own(A, 10, 20), begun], &reads[..2]), "");
    }

    #[test]
    fn value_before_its_write_or_of_no_write_is_rejected() {
        assert_eq!(why(&[own(A, 10, 20)], &[read(Got::Own(A), 5, 9)]), "it was read before it was written");
        assert_eq!(why(&[own(A, 10, 20)], &[read(Got::Own(B), 30, 40)]), "no such write touched this cell");
    }

    #[test]
    fn write_that_failed_may_be_there_or_not_but_does_not_come_and_go() {
        let writes = [own(A, 10, 20), own(B, 30, NEVER)];
        let (old, new) = (read(Got::Own(A), 50, 60), read(Got::Own(B), 50, 60));
        assert_eq!(why(&writes, &[old]), "");
        assert_eq!(why(&writes, &[new]), "");
        assert_eq!(why(&writes, &[read(Got::Own(A), 35, 40), new]), "");
        assert_ne!(why(&writes, &[read(Got::Own(B), 35, 40), old]), "");
    }

    #[test]
    fn copy_explains_what_its_source_had_and_nothing_else() {
        let copy = write(Put::Copied { file: 7, at: 64 }, 30, 40);
        let right = Got::Copied { file: 7, at: 64, written: 10 };
        assert_eq!(why(&[copy], &[read(right, 50, 60)]), "");
        assert_ne!(why(&[copy], &[read(right, 10, 20)]), "", "before the copy");
        let elsewhere = Got::Copied { file: 7, at: 128, written: 10 };
        assert_ne!(why(&[copy], &[read(elsewhere, 50, 60)]), "");
        let later = Got::Copied { file: 7, at: 64, written: 45 };
        assert_ne!(why(&[copy], &[read(later, 50, 60)]), "", "written after the copy was over");
        assert_ne!(why(&[copy, own(A, 70, 80)], &[read(right, 90, 95)]), "", "overwritten");
        assert_eq!(why(&[copy], &[read(Got::Zeros, 50, 60)]), "", "the source may have been empty");
        assert_ne!(why(&[own(A, 10, 20), copy], &[read(Got::Own(A), 50, 60)]), "");
    }
}
