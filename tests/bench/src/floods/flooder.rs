//! The process that floods.

use std::fs::File;
use std::hint::spin_loop;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use homi_client::Session;

use crate::arguments::{FloodKind, FlooderArguments};

/// Bytes that are registered and given back: more than a page table's worth, and few enough that it goes fast.
const MEMORY: usize = 4 << 20;

/// Floods until standard input ends, then says how many requests a second were answered.
pub(crate) fn run(arguments: &FlooderArguments) -> Result<()> {
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..arguments.threads)
            .map(|_| scope.spawn(|| one(&arguments.file, arguments.kind, &over, &count)))
            .collect();
        let start = Instant::now();
        println!("ready");
        std::io::stdout().flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        let rate = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        println!("{rate}");
        Ok(())
    })
}

fn one(path: &Path, kind: FloodKind, over: &AtomicBool, count: &AtomicU64) -> Result<()> {
    let file = File::open(path)?;
    let session = Session::of_file(&file)?;
    let open = session.open(&file)?;
    while !over.load(Ordering::Relaxed) {
        match kind {
            FloodKind::Nobody | FloodKind::Spin => {
                (0..1000).for_each(|_| spin_loop());
                continue;
            }
            FloodKind::Identify => session.identify(open.nsid()).map(|_| ())?,
            FloodKind::Open => drop(session.open(&file)?),
            FloodKind::Buffer => drop(session.buffer(MEMORY)?),
            // What is turned away is a request, too.
            FloodKind::Connect => drop(Session::of_file(&file)),
            FloodKind::Wake => session.wake()?,
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
