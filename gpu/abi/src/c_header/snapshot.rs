//! The C header of dataset snapshots.

use std::fmt::Write;

use super::write_structure;
use crate::snapshot::{self, PathHash};

/// The text of `include/homi_snapshot.h`.
#[must_use]
pub fn snapshot_header() -> String {
    let mut text = String::from(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n\
         /* Made by `cargo run -p homi-abi --example c_header`; do not edit. */\n\
         #ifndef HOMI_SNAPSHOT_H\n#define HOMI_SNAPSHOT_H\n\n\
         #include \"homi_extents.h\"\n\n\
         /*\n * A dataset snapshot, version 1: a whole tree of files in one arena. A homi_snapshot_header, the table of\n\
         \x20* homi_snapshot_file, the index, the table of homi_extent, and the strings, in this order, each at a\n\
         \x20* multiple of HOMI_SNAPSHOT_ALIGNMENT. All numbers are little-endian; places that end in _at are bytes from\n\
         \x20* the arena's start.\n *\n\
         \x20* Files are sorted by the hash of their path, those of one hash by the bytes of the path (as memcmp, the\n\
         \x20* shorter first). A path is relative to the snapshot's root, its names separated by single slashes, and\n\
         \x20* followed by a NUL that its length does not count.\n *\n\
         \x20* The hash: state = HOMI_SNAPSHOT_HASH_BASIS; for each byte state = (state ^ byte) *\n\
         \x20* HOMI_SNAPSHOT_HASH_PRIME; then state ^= state >> 33, state *= HOMI_SNAPSHOT_HASH_MIX_1, state ^= state >>\n\
         \x20* 33, state *= HOMI_SNAPSHOT_HASH_MIX_2, state ^= state >> 33; all modulo 2^64.\n *\n\
         \x20* The index has 2^index_bits + 1 numbers of 32 bits: number n is the place of the first file whose hash has\n\
         \x20* n or more in its upper index_bits bits; the last one is the number of files.\n *\n\
         \x20* The extents of one file follow each other, sorted by logical, without overlap, within the file's blocks;\n\
         \x20* what none covers is a hole. All files, each from a block of its own on, in the order of the table, make\n\
         \x20* one namespace: first_block is where each begins.\n */\n\n",
    );
    let constants = [
        ("HOMI_SNAPSHOT_VERSION", u64::from(snapshot::VERSION), "In header.version."),
        ("HOMI_SNAPSHOT_ALIGNMENT", snapshot::ALIGNMENT, "What places of sections are multiples of."),
        ("HOMI_SNAPSHOT_PATH_MAX", snapshot::PATH_MAX as u64, "Longest path in bytes, without its NUL."),
        (
            "HOMI_SNAPSHOT_HASH_FNV1A_MIXED",
            snapshot::HASH_FNV1A_MIXED.into(),
            "In header.hash: the hash as described above.",
        ),
    ];
    for (name, value, doc) in constants {
        let _ = writeln!(text, "/* {doc} */\n#define {name} {value}u");
    }
    let [first, second] = PathHash::MIX;
    for (name, value) in [
        ("HOMI_SNAPSHOT_HASH_BASIS", PathHash::BASIS),
        ("HOMI_SNAPSHOT_HASH_PRIME", PathHash::PRIME),
        ("HOMI_SNAPSHOT_HASH_MIX_1", first),
        ("HOMI_SNAPSHOT_HASH_MIX_2", second),
    ] {
        let _ = writeln!(text, "#define {name} {value:#018x}ull");
    }
    for structure in [snapshot::Header::STRUCTURE, snapshot::File::STRUCTURE] {
        write_structure(&mut text, &structure);
    }
    text.push_str("\n#endif\n");
    text
}
