//! Writes the C headers to where they live in the repository.

fn main() -> std::io::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let headers = [
        ("homi_extents.h", homi_abi::extents_header()),
        ("homi_control.h", homi_abi::control_header()),
        ("homi_session.h", homi_abi::session_header()),
        ("homi_snapshot.h", homi_abi::snapshot_header()),
    ];
    for (name, text) in headers {
        std::fs::write(format!("{folder}/{name}"), text)?;
        println!("{folder}/{name}");
    }
    Ok(())
}
