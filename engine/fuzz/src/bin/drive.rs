//! Drives the fuzz targets by random numbers: `drive RUNS [TARGET [FIRST]]`.
//!
//! Every run has a number, from which its input follows. So a run that failed is repeated by its number, here or
//! in a debugger, and the same numbers are tried on every machine.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine_fuzz::{Target, check};

/// No run needs a tenth of it.
const SLOW: Duration = Duration::from_secs(20);

/// The run that is going on, for the thread that watches it.
static CURRENT: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, default: u64| arguments.get(place).map_or(Some(default), |text| text.parse().ok());
    let (Some(runs), Some(first)) = (number(0, 2000), number(2, 0)) else {
        eprintln!("drive: usage: drive [RUNS [TARGET [FIRST]]]");
        return ExitCode::from(2);
    };
    std::thread::spawn(watch);
    let mut failed = false;
    for (name, target) in Target::ALL {
        if arguments.get(1).is_some_and(|only| only != name) {
            continue;
        }
        let start = Instant::now();
        let (mut failures, mut read) = (0, 0);
        for run in first..first + runs {
            CURRENT.store(run, Ordering::Relaxed);
            match catch_unwind(|| check(target, &input(run, target.input_most()))) {
                Ok(count) => read += count,
                Err(_) => {
                    eprintln!("drive: {name}: run {run} failed; repeat it by: drive 1 {name} {run}");
                    failures += 1;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{name}: {runs} runs, {failures} failed, {read} things done, {seconds:.1} s");
        let tried_nothing = read == 0 && runs >= 100;
        if tried_nothing {
            eprintln!("drive: {name}: no run got past the beginning, so nothing was tried");
        }
        failed |= failures > 0 || tried_nothing;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The input of a run: every eighth is short, so that the beginning of things is tried as well.
fn input(run: u64, most: usize) -> Vec<u8> {
    let mut state = run.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    let most = if run % 8 == 7 { most / 16 } else { most };
    let [a, b, ..] = next();
    let length = 8 + usize::from(u16::from_le_bytes([a, b])) % most;
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// Ends the program where a run does not end.
fn watch() {
    let mut last = (u64::MAX, Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let current = CURRENT.load(Ordering::Relaxed);
        if current != last.0 {
            last = (current, Instant::now());
        } else if last.1.elapsed() > SLOW {
            eprintln!("drive: run {current} does not end");
            std::process::exit(1);
        }
    }
}
