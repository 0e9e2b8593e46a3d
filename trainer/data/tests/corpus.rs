//! Replays the fuzzers' corpora (`fuzz/corpus`), with an ordinary compiler and in no time.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::Path;

mod image_reader;

/// Gives each file of a corpus to `check`.
fn replay(corpus: &str, least: usize, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= least, "{} files", files.len());
    for file in files {
        println!("{}", file.display());
        check(&std::fs::read(file).unwrap());
    }
}

#[test]
fn image_reader_survives_corpus() {
    replay("image", 20, image_reader::check);
}

#[test]
fn index_reader_survives_corpus() {
    replay("index", 5, simsiam_data::fuzzing::index);
}

#[test]
fn shard_reader_survives_corpus() {
    replay("shard", 5, simsiam_data::fuzzing::shard);
}
