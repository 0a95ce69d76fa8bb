//! Counters of the mount, and their text for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What is counted, each with a latency histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A name was looked up.
    Lookup,
    /// Attributes of an inode were asked for.
    GetAttr,
    /// A file was opened.
    Open,
    /// File contents were read.
    Read,
    /// A directory was listed.
    ReadDir,
    /// A symbolic link was read.
    ReadLink,
    /// An extended attribute was read.
    GetXattr,
    /// Extended attributes were listed.
    ListXattr,
    /// `SEEK_DATA` or `SEEK_HOLE`.
    Seek,
    /// Free space was asked for.
    StatFs,
    /// A request on the control file.
    Control,
}

const OPS: [(Op, &str); 11] = [
    (Op::Lookup, "lookup"),
    (Op::GetAttr, "getattr"),
    (Op::Open, "open"),
    (Op::Read, "read"),
    (Op::ReadDir, "readdir"),
    (Op::ReadLink, "readlink"),
    (Op::GetXattr, "getxattr"),
    (Op::ListXattr, "listxattr"),
    (Op::Seek, "lseek"),
    (Op::StatFs, "statfs"),
    (Op::Control, "control"),
];

/// Latencies are counted in powers of two, from 2^10 ns (about 1 us) to 2^34 ns (about 17 s).
const FIRST_BUCKET: u32 = 10;
const BUCKETS: usize = 25;

#[derive(Debug, Default)]
struct OpCounters {
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS + 1],
}

/// Counters of one mount. Everything is relaxed: the numbers are for people.
#[derive(Debug, Default)]
pub struct Stats {
    ops: [OpCounters; OPS.len()],
    /// Bytes given to readers of files.
    pub(crate) bytes_read: AtomicU64,
    /// Bytes that came from the kernel's own driver, below a writable mount, through the daemon.
    pub kernel_bytes: AtomicU64,
    /// Commands sent to the engine: one for each contiguous run.
    pub(crate) device_reads: AtomicU64,
    /// Bytes that came from the device.
    pub(crate) device_bytes: AtomicU64,
    /// Bytes answered with zeros, without the device.
    pub(crate) zero_bytes: AtomicU64,
    /// Bytes of inline or encoded extents, from the metadata reader.
    pub(crate) special_bytes: AtomicU64,
}

/// Counts one operation from its start to its end.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    counters: &'a OpCounters,
    start: Instant,
}

impl Stats {
    pub(crate) fn begin(&self, op: Op) -> Timed<'_> {
        Timed { counters: &self.ops[op as usize], start: Instant::now() }
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Operations of this kind so far.
    #[must_use]
    pub fn count(&self, op: Op) -> u64 {
        self.ops[op as usize].buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The text that Prometheus reads. `gauges` are further values: name, help, value.
    #[must_use]
    pub fn prometheus(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut text = String::with_capacity(8192);
        self.write_ops(&mut text);
        let totals = [
            ("read_bytes_total", "Bytes given to readers of files", &self.bytes_read),
            (
                "kernel_read_bytes_total",
                "Bytes read through the kernel's own driver by the daemon",
                &self.kernel_bytes,
            ),
            ("device_reads_total", "Contiguous runs asked of the engine", &self.device_reads),
            ("device_read_bytes_total", "Bytes that came from the device", &self.device_bytes),
            (
                "zero_bytes_total",
                "Bytes of holes and unwritten extents, answered without the device",
                &self.zero_bytes,
            ),
            ("special_bytes_total", "Bytes of inline and encoded extents", &self.special_bytes),
        ];
        for (name, help, counter) in totals {
            let value = counter.load(Ordering::Relaxed);
            let _ = write!(
                text,
                "# HELP homifs_{name} {help}.\n# TYPE homifs_{name} counter\nhomifs_{name} {value}\n"
            );
        }
        for (name, help, value) in gauges {
            let _ = write!(
                text,
                "# HELP homifs_{name} {help}.\n# TYPE homifs_{name} gauge\nhomifs_{name} {value}\n"
            );
        }
        text
    }

    fn write_ops(&self, text: &mut String) {
        text.push_str(
            "# HELP homifs_errors_total Operations that failed.\n# TYPE homifs_errors_total counter\n",
        );
        for (op, name) in OPS {
            let errors = self.ops[op as usize].errors.load(Ordering::Relaxed);
            let _ = writeln!(text, "homifs_errors_total{{op=\"{name}\"}} {errors}");
        }
        text.push_str(
            "# HELP homifs_op_seconds Time from request to reply.\n# TYPE homifs_op_seconds histogram\n",
        );
        for (op, name) in OPS {
            let counters = &self.ops[op as usize];
            let mut so_far = 0;
            for (index, bucket) in counters.buckets.iter().enumerate() {
                so_far += bucket.load(Ordering::Relaxed);
                if index < BUCKETS {
                    let limit = 2_f64.powi(FIRST_BUCKET as i32 + index as i32) / 1e9;
                    let _ =
                        writeln!(text, "homifs_op_seconds_bucket{{op=\"{name}\",le=\"{limit}\"}} {so_far}");
                } else {
                    let _ = writeln!(text, "homifs_op_seconds_bucket{{op=\"{name}\",le=\"+Inf\"}} {so_far}");
                }
            }
            let seconds = counters.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
            let _ = writeln!(text, "homifs_op_seconds_sum{{op=\"{name}\"}} {seconds}");
            let _ = writeln!(text, "homifs_op_seconds_count{{op=\"{name}\"}} {so_far}");
        }
    }
}

impl Timed<'_> {
    /// The operation is over.
    pub(crate) fn end<T, E>(self, result: &Result<T, E>) {
        let nanoseconds = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let counters = self.counters;
        counters.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        counters.buckets[bucket_of(nanoseconds)].fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            counters.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The first bucket whose limit is not below the latency.
fn bucket_of(nanoseconds: u64) -> usize {
    let bits = u64::BITS - nanoseconds.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BUCKET) as usize).min(BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_of_limits_belong_to_their_own_bucket() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(1024), 0);
        assert_eq!(bucket_of(1025), 1);
        assert_eq!(bucket_of(2048), 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS);
    }

    #[test]
    fn prometheus_counts_what_was_done() {
        let stats = Stats::default();
        stats.begin(Op::Read).end(&Ok::<_, ()>(()));
        stats.begin(Op::Read).end(&Err::<(), _>(()));
        let text = stats.prometheus(&[("open_files", "Open files", 3)]);
        assert!(text.contains("homifs_op_seconds_count{op=\"read\"} 2\n"), "{text}");
        assert!(text.contains("homifs_errors_total{op=\"read\"} 1\n"), "{text}");
        assert!(text.contains("homifs_open_files 3\n"), "{text}");
        assert_eq!(stats.count(Op::Read), 2);
    }

    #[test]
    fn ops_stand_in_the_order_of_their_numbers() {
        for (place, (op, _)) in OPS.iter().enumerate() {
            assert_eq!(*op as usize, place);
        }
    }
}
