//! Measures what a register read, a memory map and an interrupt cost over a socket.
//!
//! `round_trip PATH` asks a controller that listens there; without an argument a server in a process of its own
//! (this program again, with `--serve PATH`) is asked.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_dma::Region;
use engine_transport::{Interrupt, Transport};
use engine_vfio_user::pci::{Identity, NVME_CLASS, PciDevice, PciFunction};
use engine_vfio_user::{ClientMemory, Errno, MappableArea, Server, VfioUserTransport};

/// A controller that has registers of zeros and does nothing.
#[derive(Debug)]
struct Nothing(Arc<Region>);

impl PciFunction for Nothing {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1b36,
            device: 0x10,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            class: NVME_CLASS,
        }
    }

    fn size(&self) -> u64 {
        0x2000
    }

    fn areas(&self) -> Vec<MappableArea> {
        vec![MappableArea { offset: 0x1000, memory: Arc::clone(&self.0) }]
    }

    fn read(&self, _: u64, target: &mut [u8]) -> Result<(), Errno> {
        target.fill(0);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn vectors(&self) -> u16 {
        8
    }

    fn connect(&self, _: u16, _: Option<Interrupt>) -> Result<(), Errno> {
        Ok(())
    }

    fn map(&self, _: &ClientMemory) -> Result<(), Errno> {
        Ok(())
    }

    fn unmap(&self, _: u64, _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&self) -> Result<(), Errno> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--serve", path] => {
            let model = PciDevice::new(Nothing(Region::shared(c"doorbells", 0x1000)?));
            let _server = Server::start(Path::new(path), Arc::new(model))?;
            // Until whoever started this closes its end.
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            Ok(())
        }
        [path] => measure(Path::new(path)),
        _ => {
            let place = std::env::temp_dir().join(format!("round-trip-{}", std::process::id()));
            std::fs::create_dir(&place)?;
            let mut server = Command::new(std::env::current_exe()?)
                .arg("--serve")
                .arg(&place)
                .stdin(Stdio::piped())
                .spawn()?;
            while !place.join("cntrl").exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let measured = measure(&place);
            drop(server.stdin.take());
            server.wait()?;
            std::fs::remove_dir_all(&place)?;
            measured
        }
    }
}

fn measure(path: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let client = VfioUserTransport::connect(path)?;
    println!("connect            {:>10.1} us", micros(start.elapsed()));
    println!("CAP {:#018x}, VS {:#010x}", client.read64(0)?, client.read32(8)?);
    println!("doorbells {:?}, {} vectors", client.doorbells().map(|d| d.length()), client.interrupts());
    let mut samples = Vec::new();
    for _ in 0..20_000 {
        let start = Instant::now();
        client.read32(0x1c)?;
        samples.push(start.elapsed());
    }
    report("register read", &mut samples);
    for _ in 0..2_000 {
        let start = Instant::now();
        let arena = client.arena(2 << 20)?;
        samples.push(start.elapsed());
        drop(arena);
    }
    report("map 2 MiB", &mut samples);
    Ok(())
}

fn report(what: &str, samples: &mut Vec<Duration>) {
    samples.sort_unstable();
    let at = |share: usize| samples.get(samples.len() * share / 100).copied().unwrap_or_default();
    println!("{what:<18} {:>10.1} us median, {:.1} us at 99 %", micros(at(50)), micros(at(99)));
    samples.clear();
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
