//! The least that any driver does: a loop that stores entries, rings, and counts completions by their phase. It knows
//! no errors, no deadlines and no identifiers beyond the one it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use engine_dma::Region;
use engine_nvme_spec::Cqe;

use crate::arguments::DriverArguments;

use super::Times;
use super::null::{Queue, cid, pin};

const BATCH: usize = 10;
const ENTRIES: usize = 512;

/// Nanoseconds for each command, `depth` of them out, sent in batches.
pub(super) fn measure(depth: usize, arguments: &DriverArguments) -> Result<Times> {
    let (rounds, commands, cores) = (arguments.rounds, arguments.commands, arguments.cores);
    let region = Region::private(ENTRIES * 80 + 4096)?;
    let end = Arc::new(AtomicBool::new(false));
    let controller = {
        let (region, end) = (Arc::clone(&region), Arc::clone(&end));
        // The thread inherits where it may run.
        pin(cores.controller)?;
        thread::spawn(move || -> Result<()> {
            let place = |offset| (Arc::clone(&region), offset);
            let mut queue = Queue::new(1, place(4096), place(4096 + ENTRIES * 64), [ENTRIES; 2]);
            let bell = region.u32_at(0).context("a doorbell")?;
            while !end.load(Ordering::Relaxed) {
                queue.work(bell, |words| Cqe { cid: cid(words).into(), ..Cqe::default() });
            }
            Ok(())
        })
    };
    pin(cores.driver)?;
    let submission = region.u64s_at(4096, ENTRIES * 8).context("a queue")?;
    let completion = region.u64s_at(4096 + ENTRIES * 64, ENTRIES * 2).context("a queue")?;
    let bell = region.u32_at(0).context("a doorbell")?;
    let (mut tail, mut head, mut phase, mut out, mut lba) = (0, 0, 1, 0, 0_u64);
    let mut times = Times::default();
    for round in 0..=rounds {
        let (mut ended, mut idle) = (0, 0.0);
        let start = Instant::now();
        while ended < commands {
            let mut found = 0;
            while found < BATCH {
                let word = completion[head * 2 + 1].load(Ordering::Acquire);
                if (word >> 48) & 1 != phase {
                    break;
                }
                found += 1;
                head += 1;
                if head == ENTRIES {
                    (head, phase) = (0, phase ^ 1);
                }
            }
            ended += found;
            out -= found;
            for _ in 0..BATCH.min(depth - out) {
                lba = lba.wrapping_add(0x9e37_79b9) & 0x1fff_ffff;
                let entry = &submission[tail * 8..tail * 8 + 8];
                let words = [2 | (tail as u64) << 16 | 1 << 32, 0, 0, lba << 12, 0, lba, 7, 0];
                for (place, word) in entry.iter().zip(words) {
                    place.store(word, Ordering::Relaxed);
                }
                tail = (tail + 1) % ENTRIES;
                out += 1;
            }
            bell.store(tail as u32, Ordering::Release);
            if found == 0 {
                let empty = Instant::now();
                while (completion[head * 2 + 1].load(Ordering::Relaxed) >> 48) & 1 != phase {
                    std::hint::spin_loop();
                }
                idle += empty.elapsed().as_nanos() as f64;
            }
        }
        if round > 0 {
            times.busy.push((start.elapsed().as_nanos() as f64 - idle) / ended as f64);
            times.waiting.push(idle / ended as f64);
        }
    }
    end.store(true, Ordering::Relaxed);
    controller.join().ok().context("the controller panicked")??;
    Ok(times)
}
