//! Replays the fuzzers' corpora (`fuzz/corpus`), with an ordinary compiler and in no time.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::Path;

mod image_reader;

#[test]
fn the_image_reader_stands_its_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/image");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} files", files.len());
    for file in files {
        println!("{}", file.display());
        image_reader::check(&std::fs::read(file).unwrap());
    }
}
