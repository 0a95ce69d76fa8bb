//! The ledger as text for Prometheus.
//!
//! How many lines there are is bounded whatever clients do: each client has its own, but of queues and of files only the
//! busiest of all clients have; the others of each client are added up. What is over is added up as well (clients as
//! `gone`, files of a client as `closed`), so that sums over a label only grow.

use std::fmt::Write;

use engine_controller::tally::{OTHER_STATUS, TallySum, bucket_limit};

use crate::ledger::Statement;

/// Most queues of all clients that have lines of their own, and most files.
const MOST: usize = 128;

/// A time series: its labels, as they stand between braces, and what they came to.
struct Series {
    labels: String,
    sum: TallySum,
}

/// Writes what all clients did.
pub(crate) fn write(text: &mut String, statements: &[Statement], gone: TallySum) {
    let mut clients = vec![Series { labels: "client=\"gone\"".into(), sum: gone }];
    let (mut queues, mut files) = (Vec::new(), Vec::new());
    for statement in statements {
        let client = format!("client=\"{}\"", statement.client);
        let mut sum = TallySum::default();
        statement.queues.iter().for_each(|queue| sum.add(queue));
        clients.push(Series { labels: client.clone(), sum });
        for (place, queue) in statement.queues.iter().enumerate() {
            let labels = format!("{client},queue=\"{}\"", place + 1);
            queues.push((statement.client, Series { labels, sum: queue.clone() }));
        }
        for (number, inode, sum) in &statement.files {
            let labels = format!("{client},file=\"{number}\",inode=\"{inode}\"");
            files.push((statement.client, Series { labels, sum: sum.clone() }));
        }
    }
    let queues = bounded(queues, "queue=\"others\"");
    let mut files = bounded(files, "file=\"others\",inode=\"\"");
    for statement in statements.iter().filter(|statement| statement.closed.commands() > 0) {
        let labels = format!("client=\"{}\",file=\"closed\",inode=\"\"", statement.client);
        files.push(Series { labels, sum: statement.closed.clone() });
    }
    let _ = writeln!(text, "# HELP homifs_client_info Whose process a client is.");
    let _ = writeln!(text, "# TYPE homifs_client_info gauge");
    for Statement { client, uid, pid, .. } in statements {
        let _ = writeln!(text, "homifs_client_info{{client=\"{client}\",uid=\"{uid}\",pid=\"{pid}\"}} 1");
    }
    family(text, "client", "of clients", &clients);
    family(text, "client_queue", "of clients' queues", &queues);
    family(text, "client_file", "on clients' files", &files);
}

/// The busiest as they are, and one sum of all others for each client that has some.
fn bounded(mut all: Vec<(u64, Series)>, others: &str) -> Vec<Series> {
    if all.len() <= MOST {
        return all.into_iter().map(|(_, series)| series).collect();
    }
    all.sort_by_key(|(_, series)| std::cmp::Reverse(series.sum.commands()));
    let rest = all.split_off(MOST);
    let mut kept: Vec<Series> = all.into_iter().map(|(_, series)| series).collect();
    let mut sums = std::collections::BTreeMap::<u64, TallySum>::new();
    rest.iter().for_each(|(client, series)| sums.entry(*client).or_default().add(&series.sum));
    let folded =
        sums.into_iter().map(|(client, sum)| Series { labels: format!("client=\"{client}\",{others}"), sum });
    kept.extend(folded);
    kept
}

fn family(text: &mut String, name: &str, of: &str, all: &[Series]) {
    let _ = write!(
        text,
        "# HELP homifs_{name}_read_bytes_total Bytes that commands {of} read.\n\
         # TYPE homifs_{name}_read_bytes_total counter\n"
    );
    for Series { labels, sum } in all {
        let _ = writeln!(text, "homifs_{name}_read_bytes_total{{{labels}}} {}", sum.bytes);
    }
    let _ = write!(
        text,
        "# HELP homifs_{name}_errors_total Commands {of} that failed, by NVMe status (type and code).\n\
         # TYPE homifs_{name}_errors_total counter\n"
    );
    for Series { labels, sum } in all {
        for &(status, count) in &sum.errors {
            let status = if status == OTHER_STATUS { "other".into() } else { format!("{status:#05x}") };
            let _ = writeln!(text, "homifs_{name}_errors_total{{{labels},status=\"{status}\"}} {count}");
        }
    }
    let _ = write!(
        text,
        "# HELP homifs_{name}_command_seconds Commands {of}: time from fetch to completion.\n\
         # TYPE homifs_{name}_command_seconds histogram\n"
    );
    for Series { labels, sum } in all {
        histogram(text, name, labels, sum);
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, sum: &TallySum) {
    let mut so_far = 0;
    for (place, bucket) in sum.buckets.iter().enumerate() {
        so_far += bucket;
        let limit = bucket_limit(place).map_or("+Inf".into(), |limit| seconds(limit).to_string());
        let _ = writeln!(text, "homifs_{name}_command_seconds_bucket{{{labels},le=\"{limit}\"}} {so_far}");
    }
    let _ = writeln!(text, "homifs_{name}_command_seconds_sum{{{labels}}} {}", seconds(sum.nanoseconds));
    let _ = writeln!(text, "homifs_{name}_command_seconds_count{{{labels}}} {so_far}");
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(commands: u64) -> TallySum {
        let mut sum = TallySum { bytes: commands * 512, nanoseconds: commands * 300, ..TallySum::default() };
        sum.buckets[2] = commands;
        sum.errors = vec![(0x80, 1), (OTHER_STATUS, 2)];
        sum
    }

    fn statement(client: u64, queues: usize, files: u32) -> Statement {
        Statement {
            client,
            uid: 7,
            pid: 8,
            queues: (1..=queues).map(|number| sum(u64::try_from(number).unwrap())).collect(),
            files: (1..=files).map(|number| (number, number.into(), sum(number.into()))).collect(),
            closed: sum(5),
        }
    }

    #[test]
    fn text_of_a_client_tells_its_queues_files_and_errors() {
        let mut text = String::new();
        write(&mut text, &[statement(3, 2, 1)], sum(9));
        for line in [
            "homifs_client_info{client=\"3\",uid=\"7\",pid=\"8\"} 1",
            "homifs_client_read_bytes_total{client=\"gone\"} 4608",
            "homifs_client_read_bytes_total{client=\"3\"} 1536",
            "homifs_client_errors_total{client=\"3\",status=\"0x080\"} 2",
            "homifs_client_queue_command_seconds_count{client=\"3\",queue=\"2\"} 2",
            "homifs_client_file_command_seconds_bucket{client=\"3\",file=\"1\",inode=\"1\",le=\"0.000000256\"} 0",
            "homifs_client_file_command_seconds_bucket{client=\"3\",file=\"1\",inode=\"1\",le=\"0.000000512\"} 1",
            "homifs_client_file_command_seconds_count{client=\"3\",file=\"closed\",inode=\"\"} 5",
            "homifs_client_file_errors_total{client=\"3\",file=\"1\",inode=\"1\",status=\"other\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn text_of_very_many_files_is_bounded_and_loses_no_command() {
        let statements: Vec<_> = (1..=64).map(|client| statement(client, 0, 1024)).collect();
        let mut text = String::new();
        write(&mut text, &statements, TallySum::default());
        assert!(text.len() < 2 << 20, "{} bytes", text.len());
        let counted: u64 = text
            .lines()
            .filter(|line| line.starts_with("homifs_client_file_command_seconds_count"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(counted, 64 * (1024 * 1025 / 2 + 5));
    }
}
