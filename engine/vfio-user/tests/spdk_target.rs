//! The client, and the NVMe driver over it, against SPDK's controller, which we did not write.
//!
//! `HOMIFS_SPDK` names a tree of SPDK built with `--with-vfio-user`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine_block::BlockDevice;
use engine_nvme::DriverOptions;
use engine_transport::{Transport, TransportError};
use engine_vfio_user::VfioUserTransport;

/// The target with one namespace over an image, while it lives.
struct Target {
    process: Child,
    place: tempfile::TempDir,
    image: File,
}

const IMAGE: usize = 16 << 20;

impl Target {
    /// None where there is no SPDK, which is said.
    fn start() -> Option<Self> {
        let Some(tree) = std::env::var_os("HOMIFS_SPDK").map(PathBuf::from) else {
            println!("skipped: HOMIFS_SPDK names no built tree of SPDK");
            return None;
        };
        let program = tree.join("build/bin/nvmf_tgt");
        if !program.exists() {
            println!("skipped: there is no {}", program.display());
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("image");
        let image = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        let mut bytes = vec![0; IMAGE];
        for (index, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = u64::try_from(index).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        }
        image.write_all_at(&bytes, 0).unwrap();
        let configuration = place.path().join("configuration");
        std::fs::write(&configuration, configure(place.path(), &path)).unwrap();
        let number = std::process::id().to_string();
        let process = Command::new(program)
            .args(["-m", "0x1", "--disable-cpumask-locks", "--no-huge", "-s", "512", "-i", &number, "-r"])
            .arg(place.path().join("rpc"))
            .arg("-c")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut target = Self { process, place, image };
        let start = Instant::now();
        while !target.path().join("cntrl").exists() {
            assert!(target.process.try_wait().unwrap().is_none(), "SPDK's target ended");
            assert!(start.elapsed() < Duration::from_secs(60), "SPDK's target does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(target)
    }

    fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configure(folder: &Path, image: &Path) -> String {
    let (folder, image) = (folder.display(), image.display());
    let name = "nqn.2019-07.io.spdk:cnode0";
    format!(
        r#"{{"subsystems": [
        {{"subsystem": "bdev", "config": [
            {{"method": "bdev_aio_create", "params": {{"name": "B0", "filename": "{image}", "block_size": 512}}}}]}},
        {{"subsystem": "nvmf", "config": [
            {{"method": "nvmf_create_transport", "params": {{"trtype": "VFIOUSER"}}}},
            {{"method": "nvmf_create_subsystem", "params": {{"nqn": "{name}", "allow_any_host": true,
                "serial_number": "SPDK0", "max_namespaces": 16}}}},
            {{"method": "nvmf_subsystem_add_ns", "params": {{"nqn": "{name}", "namespace": {{"bdev_name": "B0"}}}}}},
            {{"method": "nvmf_subsystem_add_listener", "params": {{"nqn": "{name}", "listen_address": {{
                "trtype": "VFIOUSER", "traddr": "{folder}", "trsvcid": "0"}}}}}}]}}]}}"#
    )
}

#[test]
fn spdks_controller_answers_registers_maps_memory_and_connects_interrupts() {
    let Some(mut target) = Target::start() else { return };
    let client = VfioUserTransport::connect(target.path()).unwrap();
    let version = client.read32(8).unwrap();
    assert_eq!(version >> 16, 2, "version {version:#x}");
    let capabilities = client.read64(0).unwrap();
    assert_ne!(capabilities & 0xffff, 0, "queues of some entries: {capabilities:#x}");
    assert_eq!(u64::from(client.read32(4).unwrap()), capabilities >> 32);
    let doorbells = client.doorbells().expect("SPDK lets its doorbells be mapped");
    assert!(doorbells.length() >= 4096);
    assert!(client.interrupts() > 1);
    let interrupt = client.interrupt(1).unwrap();
    assert!(!interrupt.wait(Duration::ZERO).unwrap());

    let arenas: Vec<_> = (1..20).map(|number| client.arena(number * 300_000).unwrap()).collect();
    let mut ranges: Vec<(u64, u64)> = arenas
        .iter()
        .map(|arena| (arena.registration().unwrap().handle, u64::try_from(arena.length()).unwrap()))
        .collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:?}");
    drop(arenas);
    let again = client.arena(4096).unwrap();
    assert_eq!(again.registration().unwrap().handle, ranges[0].0, "what was forgotten is free");

    let outside = client.read32(0x7fff_fff0).unwrap_err();
    assert!(matches!(outside, TransportError::Refused { .. }), "{outside}");
    client.reset().unwrap();
    assert_eq!(client.read32(0x1c).unwrap() & 1, 0, "not ready after a reset");

    target.process.kill().unwrap();
    target.process.wait().unwrap();
    let start = Instant::now();
    let gone = client.read32(0).unwrap_err();
    assert!(matches!(gone, TransportError::Gone { .. }), "{gone}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn image_behind_spdks_controller_reads_through_the_driver_as_it_is() {
    let Some(target) = Target::start() else { return };
    for interrupts in [false, true] {
        let client = VfioUserTransport::connect(target.path()).unwrap();
        let device =
            engine_nvme::open(client, DriverOptions { interrupts, ..DriverOptions::default() }).unwrap();
        assert_eq!(device.info().size, u64::try_from(IMAGE).unwrap());
        let mut expected = vec![0; IMAGE];
        target.image.read_exact_at(&mut expected, 0).unwrap();
        let mut state = 12_345_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..200 {
            let length = 1 + next(600_000);
            let offset = next(IMAGE - length);
            let mut read = vec![0; length];
            device.read_at(u64::try_from(offset).unwrap(), &mut read).unwrap();
            assert!(
                read == expected[offset..offset + length],
                "{length} bytes at {offset}, interrupts {interrupts}"
            );
        }
    }
}
