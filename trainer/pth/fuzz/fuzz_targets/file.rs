//! A checkpoint file: no bytes make its reader crash, run out of memory or run on, and what it reads can be written.
//!
//! `tests/corpus.rs` does the same with each file of `corpus/file`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| simsiam_pth::fuzzing::file(bytes));
