//! Reads files through queues of its own and compares them with what read(2) gives.
//!
//!     cargo run --release -p homi-client --example compare -- FILE...

use std::error::Error;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Instant;

use homi_client::Session;

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let first = files.first().ok_or("name files on a mount of homifs, mounted with -o clients=1")?;
    let session = Session::of_file(File::open(first)?)?;
    let mut reader = session.reader(8 << 20)?;
    let (mut bytes, start) = (0_u64, Instant::now());
    for path in &files {
        let file = session.open(File::open(path)?)?;
        let mut read = vec![0xaa; usize::try_from(file.size())?];
        let length = reader.read(&file, 0, &mut read)?;
        if length != read.len() || read != fs::read(path)? {
            return Err(format!("{} differs", path.display()).into());
        }
        bytes += file.size();
    }
    println!("{} files, {bytes} bytes, alike, in {:?}", files.len(), start.elapsed());
    Ok(())
}
