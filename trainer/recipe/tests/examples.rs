//! Every file in `examples/` is a valid run.

#![allow(clippy::expect_used)] // The helpers here are tests too.

use std::path::PathBuf;

use simsiam_recipe::RunFile;

#[test]
fn every_example_is_valid() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("examples/") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let run = RunFile::load(&path).unwrap_or_else(|error| panic!("{error}"));
            let stem = path.file_stem().expect("stem").to_string_lossy();
            assert_eq!(run.name, stem, "an example is named as its run");
            seen.push(run.name);
        }
    }
    for name in ["cifar10", "imagenet-100ep", "imagenet-100ep-bs256", "own-images", "quickstart"] {
        assert!(seen.iter().any(|seen| seen == name), "examples/{name}.yaml");
    }
}
