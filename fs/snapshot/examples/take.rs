//! Takes a snapshot of a whole volume and prints how fast that went, and what a lookup costs.
//!
//! `cargo run --release -p homifs-snapshot --example take -- disk.img [ROUNDS]`

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use extents_core::{BlockRead, ReadError, to_u64};
use extents_volume::VolumeOptions;
use homi_abi::snapshot::View;
use homifs_snapshot::{Request, Snapshot};

struct Image {
    file: File,
    size: u64,
}

impl BlockRead for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, to_u64(buf.len())))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// CPU time of this thread so far (`Documentation/scheduler/sched-stats.rst`); other work on the machine does not
/// count in it.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: f64 = text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
    nanoseconds / 1e9
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: take IMAGE [ROUNDS]")?;
    let rounds: u32 = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    let options = VolumeOptions { cache_bytes: 1 << 30, ..VolumeOptions::default() };
    let fs = extents_volume::open(Arc::new(Image { file, size }), &options)?.fs;
    for _ in 0..rounds {
        let (started, begun) = (Instant::now(), cpu_seconds());
        let snapshot = Snapshot::take(Request::new(&*fs, fs.root(), b"/"))?;
        let walked = cpu_seconds();
        let files = u32::try_from(snapshot.counts().files).map(f64::from)?;
        let sealed = snapshot.into_memfd()?;
        let (wall, written) = (started.elapsed().as_secs_f64(), cpu_seconds());

        let mut bytes = vec![0; usize::try_from(sealed.length)?];
        File::from(sealed.file).read_exact_at(&mut bytes, 0)?;
        let before = cpu_seconds();
        let view = View::new(&bytes)?;
        let checked = cpu_seconds();
        let paths: Vec<_> = view.files().iter().map(|file| view.path(file)).collect();
        let before_lookups = cpu_seconds();
        for path in &paths {
            black_box(view.lookup(path).context("a file was lost")?);
        }
        let looked_up = cpu_seconds();
        println!(
            "{files} files in {:.1} ms, {:.0} per CPU second (walked and sorted {:.1} ms, written and sealed {:.1} ms); \
             {:.0} bytes a file; checked in {:.0} ns a file, looked up in {:.0} ns",
            wall * 1e3,
            files / (written - begun),
            (walked - begun) * 1e3,
            (written - walked) * 1e3,
            sealed.length as f64 / files,
            (checked - before) / files * 1e9,
            (looked_up - before_lookups) / files * 1e9,
        );
    }
    Ok(())
}
