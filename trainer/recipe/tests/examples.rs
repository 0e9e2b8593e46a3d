//! Every file in `examples/` is a valid run.

#![allow(clippy::expect_used)] // The helpers here are tests too.

use std::path::PathBuf;

use simsiam_recipe::{LinearPreset, Preset, Recipe, RunFile};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// The example of a preset is named as it is and uses it.
#[test]
fn every_preset_has_example() {
    let load = |name: &str| -> Recipe {
        RunFile::load(&folder().join(format!("{name}.yaml"))).unwrap_or_else(|error| panic!("{error}")).recipe
    };
    let text = |name: serde_json::Value| name.as_str().expect("a string").to_owned();
    for preset in Preset::ALL {
        let name = text(serde_json::to_value(preset).expect("a name"));
        assert_eq!(load(&name).pretrain.and_then(|pretrain| pretrain.preset), Some(preset), "{name}");
    }
    for preset in LinearPreset::ALL {
        let name = text(serde_json::to_value(preset).expect("a name"));
        assert_eq!(load(&name).linear.and_then(|linear| linear.preset), Some(preset), "{name}");
    }
}

/// On a cluster every pod must reach images and results.
#[test]
fn cluster_examples_use_addresses_reachable_from_pods() {
    let entries = std::fs::read_dir(folder()).expect("examples/").map(|entry| entry.expect("entry").path());
    for path in entries.filter(|path| path.is_file()).chain([folder().join("cluster/quickstart.yaml")]) {
        let run = RunFile::load(&path).unwrap_or_else(|error| panic!("{error}"));
        if !run.cluster_only.contains_key("workers") {
            continue;
        }
        let recipe = &run.recipe;
        let places = [Some(&recipe.dataset.train), recipe.dataset.val.as_ref(), Some(&recipe.output.uri)];
        for place in places.into_iter().flatten() {
            let remote = place.starts_with("s3://");
            assert!(remote || place.starts_with("pvc://"), "{}: {place}", run.name);
            assert!(!remote || recipe.output.credentials_secret.is_some(), "{}: {place}", run.name);
        }
    }
}

/// The first run is the same on a laptop and on a cluster.
#[test]
fn cluster_quickstart_matches_local_quickstart() {
    let load = |name: &str| RunFile::load(&folder().join(name)).unwrap_or_else(|error| panic!("{error}")).recipe;
    let (here, mut there) = (load("quickstart.yaml"), load("cluster/quickstart.yaml"));
    assert!(there.dataset.train.starts_with("pvc://quickstart/"));
    (there.dataset, there.output) = (here.dataset.clone(), here.output.clone());
    assert_eq!(there, here);
}

#[test]
fn every_example_is_valid() {
    let folder = folder();
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
    for name in [
        "ablation",
        "alternation",
        "cifar10",
        "imagenet-100ep",
        "imagenet-100ep-bs256",
        "labelled-probe",
        "linear-lars",
        "linear-paper",
        "linear-sgd",
        "own-images",
        "paper-baseline",
        "quickstart",
        "transfer-optimal",
    ] {
        assert!(seen.iter().any(|seen| seen == name), "examples/{name}.yaml");
    }
}
