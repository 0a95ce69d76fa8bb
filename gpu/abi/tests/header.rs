//! The C header in the repository is the one that the structures make, and compilers agree with it.

use std::process::Command;

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/homi_extents.h");

#[test]
fn header_in_repository_is_the_generated_one() {
    let stored = std::fs::read_to_string(HEADER).expect("the header is part of the repository");
    assert_eq!(stored, homi_abi::extents_header(), "run: cargo run -p homi-abi --example c_header");
}

#[test]
fn header_every_compiler_at_hand_accepts_sizes_and_places() {
    let mut tried = 0;
    for (compiler, language) in [("cc", "c"), ("c++", "c++"), ("clang", "c")] {
        let arguments = ["-x", language, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", HEADER];
        // A header compiled as a main file makes gcc warn about `#pragma once` only, which it does not have.
        let Ok(output) = Command::new(compiler).args(arguments).output() else { continue };
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        tried += 1;
    }
    if tried == 0 {
        println!("skipped: no C compiler on this machine");
    }
}
