//! Those who are measured: each mounts the same volume in its own way.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::StatVfs;

use crate::arguments::{Format, Who};
use crate::medium::command;

/// How to start everybody.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) format: Format,
    pub(crate) device: PathBuf,
    pub(crate) homifs: PathBuf,
    pub(crate) options: String,
    pub(crate) data_mib: u64,
    pub(crate) names: u32,
}

/// A mount, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) root: tempfile::TempDir,
    daemon: Option<Child>,
    /// What the daemon shows, where that is a mount; it ends after the daemon.
    _below: Option<Box<Mounted>>,
    /// Serves the device to the daemon; its CPU is not counted as the daemon's.
    _controller: Option<Controller>,
}

/// A `homifs controller` that ends when this is dropped.
#[derive(Debug)]
struct Controller {
    child: Child,
    folder: tempfile::TempDir,
}

impl Controller {
    fn start(setting: &Setting) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(&setting.homifs);
        command.arg("controller").arg(&setting.device).args(["--read-only", "--socket"]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().context("start homifs controller")?;
        let mut controller = Self { child, folder };
        let mut ready = [0; 6];
        let output = controller.child.stdout.as_mut().context("no output of homifs controller")?;
        output.read_exact(&mut ready).context("homifs controller ended before it was ready")?;
        Ok(controller)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon to measure: the one given, else the one beside this program, else whatever PATH has.
pub(crate) fn homifs_program(given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("homifs"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("homifs"))
}

impl Who {
    pub(crate) fn label(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Kernel, Format::Ext4) => "kernel ext4",
            (Self::Kernel, Format::Xfs) => "kernel XFS",
            (Self::Fuse2fs, _) => "fuse2fs",
            (Self::Homifs, _) => "homifs",
            (Self::Soft, _) => "homifs soft:",
            (Self::VfioUser, _) => "homifs vfio-user:",
            (Self::Ceiling, _) => "FUSE ceiling",
            (Self::Floor, _) => "FUSE floor",
        }
    }

    /// Mounts and waits until the mount answers.
    pub(crate) fn mount(self, setting: &Setting) -> Result<Mounted> {
        let root = tempfile::tempdir()?;
        let device = setting.device.to_str().context("the path of the device is not UTF-8")?;
        let mountpoint = root.path().to_str().context("the path of the mount point is not UTF-8")?.to_owned();
        let before = rustix::fs::statvfs(root.path())?;
        let controller = if self == Self::VfioUser { Some(Controller::start(setting)?) } else { None };
        let below = if self == Self::Floor { Some(Box::new(Self::Kernel.mount(setting)?)) } else { None };
        let mut daemon = match self {
            Self::Kernel => {
                let how = if setting.options.starts_with("rw") { "rw" } else { "ro" };
                command("mount", &["-t", setting.format.name(), "-o", how, device, &mountpoint])?;
                return Ok(Mounted { root, daemon: None, _below: below, _controller: controller });
            }
            Self::Fuse2fs => {
                let mut fuse2fs = Command::new("fuse2fs");
                fuse2fs.args(["-f", "-o", "ro", device, &mountpoint]);
                fuse2fs
            }
            Self::Homifs | Self::Soft | Self::VfioUser => {
                let spec = match &controller {
                    Some(controller) => format!("vfio-user:{}", controller.folder.path().display()),
                    None if self == Self::Soft => format!("soft:{device}"),
                    None => device.to_owned(),
                };
                let mut homifs = Command::new(&setting.homifs);
                homifs.args(["mount", "-f"]);
                if !setting.options.is_empty() {
                    homifs.args(["-o", &setting.options]);
                }
                homifs.args([&spec, &mountpoint]);
                homifs
            }
            Self::Ceiling => {
                let mut ceiling = Command::new(std::env::current_exe()?);
                let (data, names) = (setting.data_mib.to_string(), setting.names.to_string());
                ceiling.args(["ceiling", &mountpoint, "--data-mib", &data, "--names", &names]);
                ceiling
            }
            Self::Floor => {
                let mut floor = Command::new(std::env::current_exe()?);
                floor.arg("floor").args(below.as_ref().map(|below| below.root.path())).arg(&mountpoint);
                floor
            }
        };
        daemon.stdin(Stdio::null()).stdout(Stdio::null());
        if !matches!(self, Self::Ceiling | Self::Floor) {
            // What they log is not for the reader of a table; why they failed to start is shown by hand.
            daemon.stderr(Stdio::null());
        }
        let child = daemon.spawn().with_context(|| format!("start {:?}", daemon.get_program()))?;
        let mut mounted = Mounted { root, daemon: Some(child), _below: below, _controller: controller };
        mounted.wait_until_mounted(&before).with_context(|| format!("{daemon:?}"))?;
        Ok(mounted)
    }
}

impl Mounted {
    fn wait_until_mounted(&mut self, before: &StatVfs) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if rustix::fs::statvfs(self.root.path()).is_ok_and(|now| now.f_fsid != before.f_fsid)
                || is_mountpoint(self.root.path())
            {
                // The first request that is answered shows that the daemon serves.
                fs::read_dir(self.root.path())?;
                return Ok(());
            }
            if let Some(child) = &mut self.daemon
                && let Some(status) = child.try_wait()?
            {
                bail!("it ended before it mounted: {status}");
            }
            if Instant::now() > deadline {
                bail!("nothing was mounted within a minute");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The daemon's process.
    pub(crate) fn daemon_id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// CPU time that the daemon has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.as_ref()?.id())).ok()?;
        // proc_pid_stat(5): fields 14 and 15, counted behind the command's closing parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Memory that the daemon has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.as_ref()?.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }
}

fn is_mountpoint(path: &Path) -> bool {
    let Ok(table) = fs::read_to_string("/proc/self/mounts") else { return false };
    table.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == path))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whatever was opened by the last measurement may still be closing.
        for attempt in 0..50 {
            let unmounted = Command::new("umount").arg(self.root.path()).stderr(Stdio::null()).status();
            if unmounted.is_ok_and(|status| status.success()) || !is_mountpoint(self.root.path()) {
                break;
            }
            if attempt == 49 {
                let _ = Command::new("umount").arg("-l").arg(self.root.path()).status();
            }
            thread::sleep(Duration::from_millis(50));
        }
        if let Some(mut daemon) = self.daemon.take() {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !matches!(daemon.try_wait(), Ok(Some(_))) {
                if Instant::now() > deadline {
                    let _ = daemon.kill();
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
