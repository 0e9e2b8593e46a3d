//! A shard's index and a packed set's manifest: no bytes make their readers crash.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| simsiam_data::fuzzing::index(bytes));
