//! Boots a guest and runs commands in it.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

use crate::agent::{Agent, Finished};
use crate::archive::Archive;
use crate::kit::Kit;
use crate::process::Background;

/// An emulated processor on a loaded machine now and then loses a timer while the guest boots.
const BOOTS: usize = 3;
/// What a boot may take; it takes 10 to 40 s.
const BOOT_LIMIT: Duration = Duration::from_secs(100);
/// The part of the console that an error tells.
const LAST_LINES: usize = 15;

/// A guest to be booted.
#[derive(Debug, Clone)]
pub struct Guest {
    kit: Kit,
    memory_mib: u32,
    processors: u32,
    devices: Vec<String>,
    kernel_arguments: Vec<String>,
    carried: Vec<(PathBuf, String)>,
    limit: Duration,
}

impl Guest {
    /// A guest with two processors, 1 GiB of memory that other processes can map, and no device under test.
    #[must_use]
    pub fn new(kit: &Kit) -> Self {
        Self {
            kit: kit.clone(),
            memory_mib: 1024,
            processors: 2,
            devices: Vec::new(),
            kernel_arguments: Vec::new(),
            carried: Vec::new(),
            limit: Duration::from_secs(600),
        }
    }

    /// Its memory, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory: u32) -> Self {
        self.memory_mib = memory;
        self
    }

    /// Its processors.
    #[must_use]
    pub fn processors(mut self, processors: u32) -> Self {
        self.processors = processors;
        self
    }

    /// Gives it the PCI device that a vfio-user server offers at this socket.
    #[must_use]
    pub fn vfio_user(self, socket: &Path) -> Self {
        let socket = serde_json::json!({ "path": socket, "type": "unix" });
        self.device(&serde_json::json!({ "driver": "vfio-user-pci", "socket": socket }).to_string())
    }

    /// Adds a device in the words of QEMU's `-device`.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        self.devices.push(device.to_owned());
        self
    }

    /// Adds an argument to the kernel's command line.
    #[must_use]
    pub fn kernel_argument(mut self, argument: &str) -> Self {
        self.kernel_arguments.push(argument.to_owned());
        self
    }

    /// Puts a file of the host at `/mnt/NAME` in the guest, where it can be run. It takes the guest's memory.
    #[must_use]
    pub fn carry(mut self, file: &Path, name: &str) -> Self {
        self.carried.push((file.to_owned(), name.to_owned()));
        self
    }

    /// What all of it may take, from the start of the boot to the end of the last command.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Boots it; again where a boot fails, at most three times.
    ///
    /// # Errors
    /// Where no boot succeeds; with the end of the console.
    pub fn boot(&self) -> Result<Running> {
        let until = Instant::now() + self.limit;
        let folder = tempfile::Builder::new().prefix("homifs-vm-").tempdir()?;
        self.write_early(&folder.path().join("early.cpio"))
            .context("cannot write the guest's first file system")?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.boot_once(&folder, until) {
                Ok((emulator, agent, uptime)) => {
                    return Ok(Running { agent, emulator, folder, until, uptime, attempt });
                }
                Err(error) if error.is::<Refused>() => return Err(error),
                Err(error) if attempt == BOOTS || Instant::now() > until => {
                    let console = last_lines(&folder.path().join("console"));
                    return Err(error.context(format!(
                        "no boot in {attempt} succeeded; the console ends with:\n{console}"
                    )));
                }
                Err(error) => eprintln!("boot {attempt} failed, trying again: {error:#}"),
            }
        }
    }

    fn boot_once(&self, folder: &TempDir, until: Instant) -> Result<(Background, Agent, f64)> {
        let until = until.min(Instant::now() + BOOT_LIMIT);
        let socket = folder.path().join("agent");
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let mut emulator = Background::start(&self.kit.emulator(), |command| {
            command.args(self.arguments(folder.path()));
        })?;
        let stream = accept(&listener, &mut emulator, until)?;
        let mut agent = Agent::new(stream);
        let uptime = agent.ready(until).map_err(|error| {
            // Where it closed the connection, it ends in a moment.
            match emulator.wait(Duration::from_secs(2)) {
                Ok(status) if !status.success() => anyhow!(Refused(emulator.said().trim().to_owned())),
                _ => error,
            }
        })?;
        Ok((emulator, agent, uptime))
    }

    fn write_early(&self, path: &Path) -> Result<()> {
        let mut file = File::create(path)?;
        io::copy(&mut File::open(self.kit.early())?, &mut file)?;
        let mut archive = Archive::new(BufWriter::new(file));
        archive.file("init", include_bytes!("../guest/init"))?;
        archive.file("agent", include_bytes!("../guest/agent"))?;
        archive.folder("carried")?;
        for (from, name) in &self.carried {
            ensure!(!name.contains('/'), "{name} is not a plain name");
            let contents = fs::read(from).with_context(|| format!("cannot carry {}", from.display()))?;
            archive.file(&format!("carried/{name}"), &contents)?;
        }
        archive.finish()?;
        Ok(())
    }

    fn arguments(&self, folder: &Path) -> Vec<String> {
        let at = |name: &str| folder.join(name).display().to_string();
        let memory = self.memory_mib;
        let kernel = [
            "console=ttyS0 loglevel=4 panic=-1 mitigations=off",
            // Emulated timers are late on a loaded machine; the kernel would give them up.
            "no_timer_check tsc=nowatchdog",
        ];
        let kernel = kernel.into_iter().chain(self.kernel_arguments.iter().map(String::as_str));
        let mut arguments: Vec<String> = [
            "-machine",
            "q35,memory-backend=memory",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-device",
            "virtio-rng-pci",
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtserialport,chardev=agent,name=homifs.agent",
            "-device",
            "virtio-blk-pci,drive=root",
        ]
        .map(str::to_owned)
        .to_vec();
        let root = self.kit.root().display().to_string();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        add("-m", format!("{memory}"));
        add("-smp", self.processors.to_string());
        // The device's server maps it.
        add("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on"));
        add("-kernel", self.kit.kernel().display().to_string());
        add("-initrd", at("early.cpio"));
        add("-append", kernel.collect::<Vec<_>>().join(" "));
        add("-chardev", format!("file,id=console,path={}", option_value(&at("console"))));
        add("-serial", "chardev:console".to_owned());
        add("-chardev", format!("socket,id=agent,path={}", option_value(&at("agent"))));
        let root = option_value(&root);
        add(
            "-drive",
            format!("file={root},if=none,id=root,format=raw,readonly=on,cache=unsafe,file.locking=off"),
        );
        for device in &self.devices {
            add("-device", device.clone());
        }
        arguments
    }
}

/// QEMU does not run what it is told to, which another boot does not mend.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "QEMU refuses: {}", self.0)
    }
}

impl Error for Refused {}

/// A path in an option that QEMU splits at commas.
fn option_value(path: &str) -> String {
    path.replace(',', ",,")
}

fn accept(listener: &UnixListener, emulator: &mut Background, until: Instant) -> Result<UnixStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = emulator.ended()? {
            bail!(Refused(format!("{status}, {}", emulator.said().trim())));
        }
        ensure!(Instant::now() < until, "QEMU does not start: {}", emulator.said().trim());
        sleep(Duration::from_millis(20));
    }
}

fn last_lines(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// A booted guest. It is ended where this goes out of scope, and nothing of it is left.
#[derive(Debug)]
pub struct Running {
    agent: Agent,
    emulator: Background,
    folder: TempDir,
    until: Instant,
    uptime: f64,
    attempt: usize,
}

impl Running {
    /// Runs a script of bash as root and waits for its end. It is never run twice.
    ///
    /// # Errors
    /// Where the guest gives no answer in the time that is left; not where the script fails.
    pub fn run(&mut self, script: &str) -> Result<Finished> {
        self.run_within(script, Duration::from_secs(120))
    }

    /// As [`run`](Self::run); the script is ended when it took this long.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_within(&mut self, script: &str, limit: Duration) -> Result<Finished> {
        let left = self.until.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "the guest's time is over");
        self.agent.run(script, limit.min(left)).map_err(|error| {
            let ended = match self.emulator.ended() {
                Ok(Some(status)) => format!("QEMU ended with {status}; "),
                _ => String::new(),
            };
            let said = self.emulator.said();
            let console = last_lines(&self.folder.path().join("console"));
            error.context(format!(
                "in {script:?}: {ended}QEMU said {:?}; the console ends with:\n{console}",
                said.trim()
            ))
        })
    }

    /// Seconds that its kernel had run when it was ready.
    #[must_use]
    pub const fn uptime(&self) -> f64 {
        self.uptime
    }

    /// Which boot it was that succeeded, from 1.
    #[must_use]
    pub const fn attempt(&self) -> usize {
        self.attempt
    }

    /// What its kernel wrote to the console.
    #[must_use]
    pub fn console(&self) -> String {
        let text = fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What QEMU said.
    #[must_use]
    pub fn emulator_said(&self) -> String {
        self.emulator.said()
    }

    /// Powers it off as Linux does, which also shuts its controllers down.
    ///
    /// # Errors
    /// Where it does not end in time, or not well.
    pub fn power_off(mut self) -> Result<()> {
        self.agent.off()?;
        let status = self.emulator.wait(Duration::from_secs(60))?;
        ensure!(status.success(), "QEMU ended with {status}: {}", self.emulator.said().trim());
        Ok(())
    }
}
