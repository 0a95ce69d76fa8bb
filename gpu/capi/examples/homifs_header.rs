//! Writes `include/homifs.h` anew.
//!
//!     cargo run -p homifs-c --example homifs_header

fn main() -> std::io::Result<()> {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/include/homifs.h"), homifs::header())
}
