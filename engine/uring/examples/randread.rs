//! Random 4 KiB reads of a device or image through each of the kernel's ways: how many a second, and how much CPU time
//! of this process each takes.
//!
//! `cargo run --release -p engine-uring --example randread -- /dev/vdb [seconds for each row]`

use std::fs::File;
use std::time::{Duration, Instant};

use engine_block::{BlockDevice, Completion, Piece, Pieces, Request, Wait};
use engine_dma::Buffer;
use engine_uring::{Backend, Direct, KernelDevice, Preference};
use rustix::time::{ClockId, clock_gettime};

const BLOCK: usize = 4096;
const ROUNDS: u32 = 3;

/// One row of the table.
struct Way {
    name: &'static str,
    backend: Backend,
    direct: Direct,
    depth: u32,
    /// By `read` instead of `submit` and `poll`.
    by_read: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: randread PATH [SECONDS]")?;
    let seconds: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let each = Duration::from_secs_f64(seconds / f64::from(ROUNDS));

    let mut ways = Vec::new();
    for direct in [Direct::On, Direct::Off] {
        let backends = [("io_uring", Backend::IoUring), ("pread", Backend::Pread)];
        for (name, backend) in backends {
            ways.push(Way { name, backend, direct, depth: 1, by_read: true });
            ways.push(Way { name, backend, direct, depth: 1, by_read: false });
            ways.push(Way { name, backend, direct, depth: 32, by_read: false });
        }
    }
    // Rounds are interleaved, and the median counts, since machines are noisy.
    let mut figures: Vec<Vec<(f64, f64)>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (way, row) in ways.iter().zip(&mut figures) {
            let preference = Preference { backend: way.backend, direct: way.direct };
            // A file that cannot be read directly has no such row.
            if let Ok(device) = KernelDevice::new(File::open(&path)?, &path, preference) {
                row.push(measure(&device, way, each)?);
            }
        }
    }
    println!(
        "{:10} {:8} {:12} {:>5} {:>10} {:>12}",
        "way", "cache", "call", "depth", "reads/s", "CPU ns/read"
    );
    for (way, row) in ways.iter().zip(&mut figures) {
        let cache = if way.direct == Direct::On { "direct" } else { "buffered" };
        let call = if way.by_read { "read" } else { "submit, poll" };
        row.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some((rate, cpu)) = row.get(row.len() / 2) else { continue };
        println!("{:10} {cache:8} {call:12} {:>5} {rate:>10.0} {cpu:>12.0}", way.name, way.depth);
    }
    Ok(())
}

/// Reads a second and CPU nanoseconds for each.
fn measure(
    device: &KernelDevice,
    way: &Way,
    time: Duration,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let mut queue = device.queue(way.depth)?;
    let mut place = Places::new(device.info().size);
    let mut free: Vec<Buffer> = Vec::new();
    for _ in 0..way.depth {
        free.push(queue.buffer(BLOCK)?);
    }
    let mut done: Vec<Completion> = Vec::with_capacity(32);
    let mut reads = 0_u32;
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < time {
        for _ in 0..64 {
            if way.by_read {
                let buffer = free.pop().ok_or("a buffer is lost")?;
                let completion = queue.read(request(buffer, place.next()));
                completion.result?;
                free.push(completion.buffer);
                reads += 1;
                continue;
            }
            while let Some(buffer) = free.pop() {
                queue
                    .submit(request(buffer, place.next()))
                    .map_err(|refused| format!("{:?}", refused.result))?;
            }
            queue.poll(Wait::One, &mut done)?;
            for completion in done.drain(..) {
                completion.result?;
                free.push(completion.buffer);
                reads += 1;
            }
        }
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu);
    Ok((f64::from(reads) / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e9 / f64::from(reads)))
}

fn request(buffer: Buffer, device_offset: u64) -> Request {
    let piece = Piece { device_offset, buffer_offset: 0, length: BLOCK };
    Request { tag: 0, buffer, pieces: Pieces::from_slice(&[piece]) }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Random aligned places on the device, by xorshift.
struct Places {
    state: u64,
    blocks: u64,
}

impl Places {
    fn new(size: u64) -> Self {
        Self { state: 0x9E37_79B9_7F4A_7C15, blocks: (size / 4096).max(1) }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.blocks * 4096
    }
}
