#![no_main]

use engine_fuzz::{Target, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check(Target::Driver, input);
});
