//! `homifs stats`: what a mount did, from its file `.homi/stats`.

use homifs_fuse::mount_table::Entry;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::{Format, Stats};
use crate::failure::Failure;
use crate::prometheus::{self, Histogram, Labels, Sample};
use crate::{Result, mounts, output};

/// Everything that is told.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    mount: String,
    operations: Vec<Work>,
    clients: Vec<Work>,
    queues: Vec<Work>,
    files: Vec<Work>,
    /// All values that stand alone, by their name without what all have in front.
    values: Map<String, Value>,
}

/// What was done, of one kind or by somebody.
#[derive(Debug, Serialize)]
struct Work {
    #[serde(flatten)]
    labels: Labels,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bytes: Option<u64>,
    errors: u64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    errors_by_status: Map<String, Value>,
    mean_seconds: Option<f64>,
    /// Upper limits of the buckets of the histogram.
    median_seconds_at_most: Option<f64>,
    p99_seconds_at_most: Option<f64>,
}

pub(crate) fn run(arguments: &Stats) -> Result {
    let shown = arguments.directory.display();
    let mount = mounts::holding(&arguments.directory).map_err(|error| Failure::io(&shown, &error))?;
    let Some(mount) = mount.filter(Entry::is_homifs) else {
        return Err(Failure::plain(format!("{shown} is not on a homifs mount; name a mount")));
    };
    let file = mount.mountpoint.join(".homi/stats");
    let text = std::fs::read_to_string(&file).map_err(|error| Failure::io(file.display(), &error))?;
    let report = report(mount.mountpoint.to_string_lossy().into_owned(), &prometheus::parse(&text));
    match arguments.output.output {
        Format::Json => println!("{:#}", serde_json::to_value(report)?),
        Format::Table => print!("{}", tables(&report)),
    }
    Ok(())
}

fn report(mount: String, samples: &[Sample]) -> Report {
    let mut values = Map::new();
    for sample in samples.iter().filter(|sample| sample.labels.is_empty()) {
        let name = sample.name.strip_prefix("homifs_").unwrap_or(&sample.name);
        values.insert(name.to_owned(), json!(prometheus::whole(sample.value)));
    }
    Report {
        version: 1,
        mount,
        operations: works(samples, "homifs_op_seconds", "homifs"),
        clients: works(samples, "homifs_client_command_seconds", "homifs_client"),
        queues: works(samples, "homifs_client_queue_command_seconds", "homifs_client_queue"),
        files: works(samples, "homifs_client_file_command_seconds", "homifs_client_file"),
        values,
    }
}

/// A histogram's name, and what the names of its family begin with.
fn works(samples: &[Sample], histogram: &str, family: &str) -> Vec<Work> {
    let (errors, bytes) = (format!("{family}_errors_total"), format!("{family}_read_bytes_total"));
    let all = prometheus::histograms(samples, histogram).into_iter();
    all.map(|(labels, times)| work(samples, labels, &times, &errors, &bytes)).collect()
}

fn work(samples: &[Sample], labels: Labels, times: &Histogram, errors: &str, bytes: &str) -> Work {
    let is_ours = |sample: &&Sample| labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value));
    let mut by_status = Map::new();
    let mut failed = 0;
    for sample in samples.iter().filter(|sample| sample.name == errors).filter(is_ours) {
        let count = prometheus::whole(sample.value);
        failed += count;
        if let Some(status) = sample.labels.get("status") {
            by_status.insert(status.clone(), json!(count));
        }
    }
    let finite = |seconds: Option<f64>| seconds.filter(|seconds| seconds.is_finite());
    // The sum of all files has no labels, and is no operation's.
    let moved =
        samples.iter().filter(|sample| !sample.labels.is_empty() && sample.name == bytes).find(is_ours);
    Work {
        read_bytes: moved.map(|sample| prometheus::whole(sample.value)),
        count: times.count,
        errors: failed,
        errors_by_status: by_status,
        mean_seconds: times.mean(),
        median_seconds_at_most: finite(times.quantile(500)),
        p99_seconds_at_most: finite(times.quantile(990)),
        labels,
    }
}

fn tables(report: &Report) -> String {
    let mut text = String::new();
    let mut section = |works: &[Work], labels: &[&str]| {
        let works = works.iter().filter(|work| work.count > 0).collect::<Vec<_>>();
        if works.is_empty() {
            return;
        }
        let with_bytes = works.iter().any(|work| work.read_bytes.is_some());
        let mut table = output::table();
        let header = labels.iter().map(|label| label.to_uppercase());
        let rest = ["COUNT", "BYTES", "ERRORS", "MEAN", "MEDIAN<=", "P99<="];
        let shown = rest.iter().filter(|name| with_bytes || **name != "BYTES").map(|name| (*name).to_owned());
        table.set_header(header.chain(shown));
        for work in works {
            let names = labels.iter().map(|label| {
                let value = work.labels.get(*label).map_or("", |value| &**value);
                output::name(if value.is_empty() { b"-" } else { value.as_bytes() })
            });
            let bytes = with_bytes.then(|| work.read_bytes.unwrap_or(0).to_string());
            let times = [work.mean_seconds, work.median_seconds_at_most, work.p99_seconds_at_most].map(time);
            let row = names.chain([work.count.to_string()]).chain(bytes).chain([work.errors.to_string()]);
            table.add_row(row.chain(times));
        }
        text.push_str(&format!("{}\n\n", table.trim_fmt()));
    };
    section(&report.operations, &["op"]);
    section(&report.clients, &["client"]);
    section(&report.queues, &["client", "queue"]);
    section(&report.files, &["client", "file", "inode"]);
    let mut table = output::table();
    for (name, value) in &report.values {
        table.add_row([name.replace('_', " "), value.to_string()]);
    }
    text.push_str(&format!("{}\n", table.trim_fmt()));
    text
}

/// A time for a person: three digits and a unit.
fn time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let (value, unit) = match seconds {
        _ if seconds < 1e-6 => (seconds * 1e9, "ns"),
        _ if seconds < 1e-3 => (seconds * 1e6, "us"),
        _ if seconds < 1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_joins_times_errors_and_bytes_of_one_client() {
        let samples = prometheus::parse(
            "homifs_read_bytes_total 5\nhomifs_client_read_bytes_total{client=\"3\"} 4096\n\
             homifs_client_errors_total{client=\"3\",status=\"0x080\"} 2\n\
             homifs_client_command_seconds_bucket{client=\"3\",le=\"0.001\"} 8\n\
             homifs_client_command_seconds_bucket{client=\"3\",le=\"+Inf\"} 8\n\
             homifs_client_command_seconds_sum{client=\"3\"} 0.002\n\
             homifs_client_command_seconds_count{client=\"3\"} 8\n",
        );
        let report = report("/mnt".into(), &samples);
        let [client] = &report.clients[..] else { panic!("{report:?}") };
        assert_eq!((client.count, client.errors, client.read_bytes), (8, 2, Some(4096)));
        assert_eq!(client.errors_by_status["0x080"], 2);
        assert_eq!(report.values["read_bytes_total"], 5);
        let shown = tables(&report);
        assert!(shown.contains("250 us") && shown.contains("1.00 ms"), "{shown}");
    }

    #[test]
    fn time_has_three_digits_and_a_unit() {
        for (seconds, shown) in
            [(1.28e-7, "128 ns"), (1.5e-6, "1.50 us"), (0.0123, "12.3 ms"), (2.0, "2.00 s")]
        {
            assert_eq!(time(Some(seconds)), shown);
        }
        assert_eq!(time(None), "-");
    }
}
