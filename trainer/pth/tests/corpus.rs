//! Replays the fuzzer's corpus (`fuzz/corpus`) and the fixtures, with an ordinary compiler and in no time.

use std::path::Path;

#[test]
fn reader_survives_corpus() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["fuzz/corpus/file", "../../tests/parity/checkpoints"] {
        files.extend(std::fs::read_dir(here.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    assert!(files.len() >= 15, "{} files", files.len());
    for file in files {
        println!("{}", file.display());
        simsiam_pth::fuzzing::file(&std::fs::read(file).unwrap());
    }
}
