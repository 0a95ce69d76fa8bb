//! One round: processes work for a while, then everything that they saw is judged.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use crate::actor::identity_of;
use crate::clock::now;
use crate::history::{History, Tally, Violation};
use crate::place::path;
use crate::record::{Act, Log, Record, Way};
use crate::stamp::Stamp;
use crate::volume::Volume;

/// Who looks at everything at the end.
const LAST: u32 = 62;
/// How long processes may take to end once their time is over.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a round is like.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program that the processes run.
    pub program: std::path::PathBuf,
    /// Options of the mount; none for the kernel's own.
    pub options: Option<String>,
    /// How long the processes work.
    pub length: Duration,
    /// Processes that write and read.
    pub processes: u32,
    /// Processes that read by queues.
    pub device_readers: u32,
    /// The [accelerator's sources](crate::build) that half of these run.
    pub device_program: Option<std::path::PathBuf>,
    /// What decides about all choices.
    pub seed: u64,
    /// How many names files have.
    pub names: u32,
    /// Whether files are cut, punched and replaced most of the time.
    pub storm: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was looked at.
    pub tally: Tally,
    /// Bytes that the engine served and that the lower mount served, as the daemon counts them.
    pub served: [u64; 2],
    /// The operation that took longest, in words.
    pub longest: String,
    /// What has no explanation, in words.
    pub complaints: Vec<String>,
}

/// Processes that end with this.
struct Processes(Vec<(String, Child)>);

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
        }
        // One that waits for the daemon ends with the mount, which goes after this.
        let until = Instant::now() + Duration::from_secs(2);
        for (_, child) in &mut self.0 {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Processes {
    fn start(plan: &Plan, root: &Path, logs: &Path, stamp: Stamp) -> Result<Self> {
        let until = now() + u64::try_from(plan.length.as_nanos())?;
        let mut started = Self(Vec::new());
        for actor in 0..plan.processes + plan.device_readers {
            let kind = if actor < plan.processes { "worker" } else { "device" };
            let mut command = Command::new(&plan.program);
            command.arg(kind).arg("--root").arg(root).arg("--log").arg(logs.join(actor.to_string()));
            let numbers = [("--actor", u64::from(actor)), ("--seed", plan.seed), ("--stamp", stamp.0)];
            for (name, number) in
                numbers.into_iter().chain([("--until", until), ("--names", plan.names.into())])
            {
                command.arg(name).arg(number.to_string());
            }
            let source = plan
                .device_program
                .as_ref()
                .filter(|_| actor >= plan.processes && (actor - plan.processes) % 2 == 1);
            if let Some(program) = source {
                command.arg("--program").arg(program);
            }
            command.args(plan.storm.then_some("--storm")).stdin(Stdio::null());
            started.0.push((format!("{kind} {actor}"), command.spawn()?));
        }
        Ok(started)
    }

    fn join(mut self, until: Instant) -> Result<()> {
        for (name, child) in &mut self.0 {
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if Instant::now() > until {
                    bail!("{name}, process {}, hangs: {}", child.id(), where_it_hangs(child.id()));
                }
                sleep(Duration::from_millis(5));
            };
            ensure!(status.success(), "{name} ended with {status}");
        }
        Ok(())
    }
}

fn where_it_hangs(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/stack")).unwrap_or_default().replace('\n', " ")
}

/// Runs one, on a volume whose files are those of earlier rounds.
///
/// # Errors
/// Where it cannot be run, where something hangs, or where the volume is damaged.
pub fn run(volume: &Volume, plan: &Plan) -> Result<Outcome> {
    let stamp = Stamp(plan.seed);
    let mount = match &plan.options {
        Some(options) => volume.mount(options)?,
        None => volume.mount_by_kernel()?,
    };
    let logs = tempfile::Builder::new().prefix("homifs-model-logs-").tempdir()?;
    let root = mount.path().join("files");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir(&root)?;
    let processes = Processes::start(plan, &root, logs.path(), stamp)?;
    processes.join(Instant::now() + plan.length + PATIENCE)?;
    let mut records = Vec::new();
    for actor in 0..plan.processes + plan.device_readers {
        records.extend(Log::read(&logs.path().join(actor.to_string()))?);
    }
    look_at_all(&root, plan, stamp, &mut records)?;
    let served = served(mount.path());
    volume.unmount_and_check(mount)?;
    let kernel = volume.look()?;
    look_at_all(&kernel.path().join("files"), plan, stamp, &mut records)?;
    kernel.unmount()?;
    let (violations, tally) = History::new(&records).violations(5);
    let complaints = violations.iter().map(|violation| in_words(violation, &records)).collect();
    let longest = (0..records.len()).max_by_key(|&number| records[number].end - records[number].begin);
    let longest = longest.map_or_else(String::new, |number| told(&records[number], records[number].begin));
    Ok(Outcome { tally, served, longest, complaints })
}

/// Reads everything once more, when nobody writes.
fn look_at_all(root: &Path, plan: &Plan, stamp: Stamp, records: &mut Vec<Record>) -> Result<()> {
    for name in 0..plan.names {
        let begin = now();
        let file =
            match rustix::fs::open(path(root, name), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NOENT) => {
                    let act = Act::Look { name };
                    records.push(Record { actor: LAST, file: 0, begin, end: now(), certain: true, act });
                    continue;
                }
                Err(error) => return Err(error).context("cannot look at what is left"),
            };
        let identity = identity_of(&file).context("a file that is left has no identity")?;
        let mut tell = |begin, act| {
            records.push(Record { actor: LAST, file: identity, begin, end: now(), certain: true, act });
        };
        tell(begin, Act::Look { name });
        let (begin, file) = (now(), File::from(file));
        let size = file.metadata()?.len();
        tell(begin, Act::Size { size });
        let begin = now();
        // To see that it ends there.
        let mut bytes = vec![0; usize::try_from(size)? + 4096];
        let mut had = 0;
        loop {
            match file.read_at(&mut bytes[had..], had as u64)? {
                0 => break,
                more => had += more,
            }
        }
        let runs = stamp.runs(0, &bytes[..had]);
        tell(begin, Act::Read { way: Way::Buffered, offset: 0, length: size + 4096, runs });
    }
    Ok(())
}

/// Bytes read from the device and by the lower mount.
fn served(mount: &Path) -> [u64; 2] {
    let text = fs::read_to_string(mount.join(".homi/stats")).unwrap_or_default();
    ["homifs_device_read_bytes_total", "homifs_kernel_read_bytes_total"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0)
    })
}

/// A complaint with the records that it is about, and times since the first of them.
fn in_words(violation: &Violation, records: &[Record]) -> String {
    let mut text = format!("{}: {}", violation.place, violation.why);
    let concerned = || violation.records.iter().filter_map(|&number| records.get(number));
    let start = concerned().map(|record| record.begin).min().unwrap_or(0);
    for record in concerned() {
        let _ = write!(text, "\n    {}", told(record, start));
    }
    text
}

/// A record, with times since a moment.
fn told(record: &Record, start: u64) -> String {
    let (begin, end) = (record.begin - start, record.end.saturating_sub(start));
    let mut act = record.act.clone();
    if let Act::Read { runs, .. } = &mut act {
        // One that was torn to shreds would fill the screen.
        runs.truncate(8);
    }
    let certain = if record.certain { "" } else { ", perhaps" };
    format!("{begin} to {end} ns: process {}{certain}: {act:?}", record.actor)
}
