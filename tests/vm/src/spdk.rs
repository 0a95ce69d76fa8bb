//! SPDK as a peer: a driver and a controller that we did not write. It is built by whoever wants these tests, from its
//! own sources with `--with-vfio-user`; `HOMIFS_SPDK` names the built tree.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Background;

/// The name that SPDK wants for the subsystem; a controller that is not SPDK's has no use for it.
const SUBSYSTEM: &str = "nqn.2019-07.io.spdk:cnode0";
/// What its programs may use, in MiB; it comes from hugepages where an initiator shares it.
const MEMORY_MIB: &str = "256";
/// How long a target may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A built tree of SPDK.
#[derive(Debug, Clone)]
pub struct Spdk {
    tree: PathBuf,
}

impl Spdk {
    /// The tree that `HOMIFS_SPDK` names.
    ///
    /// # Errors
    /// The reason why it cannot be used here, for a test to say that it was skipped.
    pub fn find() -> Result<Self, String> {
        let tree =
            PathBuf::from(env::var_os("HOMIFS_SPDK").ok_or("HOMIFS_SPDK names no built tree of SPDK")?);
        for program in ["bin/nvmf_tgt", "bin/spdk_nvme_identify", "bin/spdk_nvme_perf", "examples/bdevperf"] {
            if !tree.join("build").join(program).exists() {
                return Err(format!("{} has no build/{program}", tree.display()));
            }
        }
        let pages = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free =
            pages.lines().find_map(|line| line.strip_prefix("HugePages_Free:")?.trim().parse::<u32>().ok());
        if free.unwrap_or(0) < 192 {
            return Err("SPDK needs 192 free hugepages of 2 MiB and a mounted hugetlbfs".into());
        }
        Ok(Self { tree })
    }

    /// One of its programs, by its path below `build`.
    #[must_use]
    pub fn program(&self, path: &str) -> PathBuf {
        self.tree.join("build").join(path)
    }

    /// How its programs are told of the controller in a socket's folder.
    #[must_use]
    pub fn address(folder: &Path) -> String {
        format!("trtype:VFIOUSER traddr:{} subnqn:{SUBSYSTEM}", folder.display())
    }

    /// Runs one of its initiators against the controller in this folder and gives what it wrote.
    ///
    /// # Errors
    /// Where it fails or does not end in time, with what it said.
    pub fn initiate(
        &self,
        program: &str,
        folder: &Path,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<String> {
        let mut process = Background::start(&self.program(program), |command| {
            command.args(["-g", "-s", MEMORY_MIB, "-i", &shared_memory_id(), "-r", &Self::address(folder)]);
            command.args(arguments);
        })?;
        let status = process.wait(limit)?;
        ensure!(status.success(), "{program} ended with {status}: {}", process.said().trim());
        Ok(process.said())
    }

    /// Has its block layer write, read back and compare for some seconds.
    ///
    /// # Errors
    /// Where it fails or does not end in time, with what it said.
    pub fn verify(&self, folder: &Path, size: u32, depth: u32, seconds: u32) -> Result<String> {
        let configuration = tempfile::NamedTempFile::new()?;
        let attach = json!({ "method": "bdev_nvme_attach_controller", "params": {
            "name": "N", "trtype": "VFIOUSER", "traddr": folder, "subnqn": SUBSYSTEM } });
        let subsystems = json!({ "subsystems": [{ "subsystem": "bdev", "config": [attach] }] });
        fs::write(configuration.path(), subsystems.to_string())?;
        let socket = tempfile::tempdir()?;
        let mut process = Background::start(&self.program("examples/bdevperf"), |command| {
            prepare(command, &socket.path().join("rpc"));
            command
                .args(["-m", "0x2", "-g", "-s", MEMORY_MIB, "-w", "verify"])
                .arg("-c")
                .arg(configuration.path());
            command.args(["-o", &size.to_string(), "-q", &depth.to_string(), "-t", &seconds.to_string()]);
        })?;
        let status = process.wait(Duration::from_secs(u64::from(seconds) + 60))?;
        let said = process.said();
        ensure!(status.success(), "bdevperf ended with {status}: {}", said.trim());
        Ok(said)
    }

    /// Starts its target with an image, at `cntrl` in a folder of its own. It keeps a processor busy.
    ///
    /// # Errors
    /// Where it does not start, with what it said.
    pub fn target(&self, image: &Path, block_size: u32) -> Result<SpdkTarget> {
        let folder = tempfile::Builder::new().prefix("homifs-spdk-").tempdir()?;
        let steps = [
            ("bdev", "bdev_aio_create", json!({ "name": "B1", "filename": image, "block_size": block_size })),
            ("nvmf", "nvmf_create_transport", json!({ "trtype": "VFIOUSER" })),
            (
                "nvmf",
                "nvmf_create_subsystem",
                json!({ "nqn": SUBSYSTEM, "allow_any_host": true, "serial_number": "SPDK0", "max_namespaces": 16 }),
            ),
            (
                "nvmf",
                "nvmf_subsystem_add_ns",
                json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": "B1" } }),
            ),
            (
                "nvmf",
                "nvmf_subsystem_add_listener",
                json!({ "nqn": SUBSYSTEM, "listen_address": {
                    "trtype": "VFIOUSER", "traddr": folder.path(), "trsvcid": "0" } }),
            ),
        ];
        let of = |subsystem: &str| -> Vec<Value> {
            let ours = steps.iter().filter(|step| step.0 == subsystem);
            ours.map(|step| json!({ "method": step.1, "params": step.2 })).collect()
        };
        let configuration = folder.path().join("configuration");
        let subsystems =
            ["bdev", "nvmf"].map(|subsystem| json!({ "subsystem": subsystem, "config": of(subsystem) }));
        fs::write(&configuration, json!({ "subsystems": subsystems }).to_string())?;
        let requests = folder.path().join("rpc");
        let mut process = Background::start(&self.program("bin/nvmf_tgt"), |command| {
            prepare(command, &requests);
            // It maps its clients' memory and needs none that they can map.
            command.args(["-m", "0x1", "--no-huge", "-s", "512"]).arg("-c").arg(&configuration);
        })?;
        let socket = folder.path().join("cntrl");
        process.wait_until("listening", START_LIMIT, || socket.exists())?;
        Ok(SpdkTarget { process, folder, requests })
    }
}

fn prepare(command: &mut Command, requests: &Path) {
    command.args(["--disable-cpumask-locks", "-i", &shared_memory_id()]).arg("-r").arg(requests);
}

/// Programs with one number share their memory, which these must not.
fn shared_memory_id() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    (process::id() % 1_000_000 * 100 + number % 100).to_string()
}

/// A running target.
#[derive(Debug)]
pub struct SpdkTarget {
    process: Background,
    folder: TempDir,
    requests: PathBuf,
}

impl SpdkTarget {
    /// The socket's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("cntrl")
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Adds a namespace in memory.
    ///
    /// # Errors
    /// Where the target refuses it.
    pub fn add_namespace(&self, name: &str, block_size: u32, blocks: u64) -> Result<()> {
        self.request(
            "bdev_malloc_create",
            &json!({ "name": name, "block_size": block_size, "num_blocks": blocks }),
        )?;
        self.request(
            "nvmf_subsystem_add_ns",
            &json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": name } }),
        )?;
        Ok(())
    }

    /// Takes a namespace away.
    ///
    /// # Errors
    /// Where the target refuses it.
    pub fn remove_namespace(&self, namespace: u32) -> Result<()> {
        self.request("nvmf_subsystem_remove_ns", &json!({ "nqn": SUBSYSTEM, "nsid": namespace })).map(drop)
    }

    fn request(&self, method: &str, parameters: &Value) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.requests)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
        stream.write_all(request.to_string().as_bytes())?;
        // The answer has no end but its own last bracket.
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            let count = stream.read(&mut part).with_context(|| format!("no answer to {method}"))?;
            answer.extend_from_slice(&part[..count]);
            if let Ok(answer) = serde_json::from_slice::<Value>(&answer) {
                ensure!(answer.get("error").is_none(), "SPDK refuses {method}: {answer}");
                return Ok(answer["result"].clone());
            }
            ensure!(count != 0, "SPDK does not answer {method}: {}", String::from_utf8_lossy(&answer));
        }
    }
}
