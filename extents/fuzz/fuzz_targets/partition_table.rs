#![no_main]

use extents_fuzz::{Target, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check(Target::PartitionTable, input);
});
