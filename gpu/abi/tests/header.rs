//! The C headers in the repository are the ones that the structures make, and compilers agree with them.

use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include");

fn headers() -> [(String, String); 4] {
    let path = |name: &str| format!("{FOLDER}/{name}");
    [
        (path("homi_extents.h"), homi_abi::extents_header()),
        (path("homi_control.h"), homi_abi::control_header()),
        (path("homi_session.h"), homi_abi::session_header()),
        (path("homi_snapshot.h"), homi_abi::snapshot_header()),
    ]
}

#[test]
fn header_in_repository_is_the_generated_one() {
    for (path, generated) in headers() {
        let stored = std::fs::read_to_string(&path).expect("the header is part of the repository");
        assert_eq!(stored, generated, "run: cargo run -p homi-abi --example c_header");
    }
}

#[test]
fn header_every_compiler_at_hand_accepts_sizes_and_places() {
    let mut tried = 0;
    for (compiler, language) in [("cc", "c"), ("c++", "c++"), ("clang", "c")] {
        for (path, _) in headers() {
            let arguments = ["-x", language, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", &path];
            let Ok(output) = Command::new(compiler).args(arguments).output() else { continue };
            assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
            tried += 1;
        }
    }
    if tried == 0 {
        println!("skipped: no C compiler on this machine");
    }
}

#[test]
fn ioctl_number_is_the_one_that_c_makes() {
    // _IOWR('H', 1, char[4096])
    assert_eq!(homi_abi::control::ioctl(4096), Some(0xd000_4801));
    assert_eq!(homi_abi::control::argument_size(0xd000_4801), Some(4096));
    assert_eq!(homi_abi::control::argument_size(0x8008_6601), None, "FS_IOC_GETFLAGS");
    assert_eq!(homi_abi::control::ioctl(1 << 14), None);
}
