//! A tar's table: no bytes make its reader crash or point beyond the tar.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| simsiam_data::fuzzing::shard(bytes));
