//! The image reader: no bytes make it crash, and a part is refused if and only if the whole is.
//!
//! `tests/corpus.rs` does the same with each file of `corpus/image`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/image_reader/mod.rs"]
mod image_reader;

fuzz_target!(|bytes: &[u8]| image_reader::check(bytes));
