//! Writes the C header to where it lives in the repository.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/include/homi_extents.h");
    std::fs::write(path, homi_abi::extents_header())?;
    println!("{path}");
    Ok(())
}
