//! Writes the C headers to where they live in the repository.

fn main() -> std::io::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    for (name, text) in
        [("homi_extents.h", homi_abi::extents_header()), ("homi_control.h", homi_abi::control_header())]
    {
        std::fs::write(format!("{folder}/{name}"), text)?;
        println!("{folder}/{name}");
    }
    Ok(())
}
