//! Linear classification and fine-tuning: exact at any world size, the same bits after an interruption, and features out.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use simsiam_tests::{RunFile, command, output_of, run, run_ok, synth, wait_until, weights};

/// 37 validation images of each class: neither 2 nor 3 ranks share 370 images equally in batches.
fn file(folder: &Path) -> RunFile {
    let data = synth(folder, 40, 37);
    let mut file = RunFile::new(folder, &data, "val");
    file.set("/pretrain/epochs", 1.into());
    // 400 images in batches of 96: the last one has 16.
    file.set("/linear", json!({"epochs": 3, "batchSize": 96, "lr": 0.5}));
    file
}

fn stage(file: &RunFile, stage: &str, ranks: &str) -> Value {
    let path = file.write().to_owned();
    run_ok(&[stage, "-f", &path, "--nproc", ranks, "--threads-per-rank", "1", "--metrics-addr", "127.0.0.1:0"]);
    file.result()
}

/// Returns the newest complete checkpoint of a stage, which is in a folder named by a digest.
fn newest(file: &RunFile, stage: &str) -> Option<PathBuf> {
    let digests =
        std::fs::read_dir(file.output().join(stage)).ok()?.filter_map(|d| std::fs::read_dir(d.ok()?.path()).ok());
    let checkpoints = digests.flatten().map(|c| c.unwrap().path()).filter(|c| c.join("manifest.json").exists());
    checkpoints.max()
}

#[test]
fn accuracy_is_exact_at_any_world_size_and_the_backbone_is_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut run_file = file(folder.path());
    stage(&run_file, "run", "2");
    let encoder = run_file.weights(run_file.checkpoints().last().unwrap());
    let mut scores = Vec::new();
    for ranks in ["1", "2", "3"] {
        // Another output, so that it does not find what another world size left.
        let mut alone = run_file.clone();
        alone.set("/output/uri", json!(folder.path().join(format!("out-{ranks}"))));
        copy(&run_file.output().join("checkpoints"), &alone.output().join("checkpoints"));
        let result = stage(&alone, "linear", ranks);
        assert_eq!(result["linear"]["images"], 370, "{ranks} ranks: {result}");
        let best = weights(&std::fs::read(alone.output().join("linear/model_best.safetensors")).unwrap());
        for (name, values) in best.iter().filter(|(name, _)| !name.starts_with("fc.")) {
            assert_eq!(Some(values), encoder.get(&format!("module.encoder.{name}")), "{name}, {ranks} ranks");
        }
        scores.push((result["linear"]["top1"].as_f64().unwrap(), best["fc.weight"].clone()));
    }
    // The same samples in the same steps: what differs is the order of sums.
    for (top1, fc) in &scores[1..] {
        assert!((top1 - scores[0].0).abs() < 1.0, "{top1} and {}", scores[0].0);
        let far = fc.iter().zip(&scores[0].1).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-4, "the classifiers differ by {far}");
    }

    let quick = {
        run_file.set("/linear/cachedFeatures", true.into()).set("/linear/untrainedToo", true.into());
        stage(&run_file, "linear", "2")
    };
    assert!(quick["linear"]["caveat"].as_str().unwrap().contains("quick estimate"), "{quick}");
    assert!(quick["linearUntrained"]["top1"].as_f64().unwrap() > 0.0, "{quick}");

    let features = folder.path().join("features.parquet");
    let path = run_file.write().to_owned();
    let said = run_ok(&["embed", "-f", &path, "-o", features.to_str().unwrap(), "--part", "val"]);
    assert!(said.contains("370 vectors"), "{said}");
    let bytes = std::fs::read(&features).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
}

#[test]
fn resumed_classifier_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let mut undisturbed = file(folder.path());
    // With the untrained encoder's classifier before: it is the one that is stopped, and its state must not become the
    // other's on any rank.
    undisturbed.set("/linear", json!({"epochs": 25, "batchSize": 96, "lr": 0.5, "untrainedToo": true}));
    undisturbed
        .set("/finetune", json!({"epochs": 6, "batchSize": 48, "fraction": 0.5, "lr": 0.02, "classifierLr": 0.2}));
    stage(&undisturbed, "run", "2");
    for (name, file) in [("linear", "step-000000125"), ("finetune", "step-000000024")] {
        let mut stopped = undisturbed.clone();
        stopped.set("/output/uri", json!(folder.path().join(format!("stopped-{name}"))));
        copy(&undisturbed.output().join("checkpoints"), &stopped.output().join("checkpoints"));
        let path = stopped.write().to_owned();
        let arguments = [name, "-f", &path, "--nproc", "2", "--threads-per-rank", "1", "--metrics-addr", "127.0.0.1:0"];
        let child = command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until(Duration::from_secs(120), "a checkpoint", || newest(&stopped, name));
        signal(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let (code, _, err) = output_of(child.wait_with_output().unwrap());
        assert_eq!(code, 85, "{err}");
        let (code, _, err) = run(&arguments);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("resumed after step"), "{err}");
        assert_eq!(stopped.result()[name], undisturbed.result()[name]);
        let ends = [&undisturbed, &stopped].map(|f| newest(f, name).unwrap());
        for end in &ends {
            assert!(end.file_name().unwrap().to_str().unwrap().starts_with(file), "{}", end.display());
        }
        for part in ["model.safetensors", "optimizer.safetensors"] {
            let [a, b] = ends.each_ref().map(|end| std::fs::read(end.join(part)).unwrap());
            assert!(a == b, "{name}: {part} differs");
        }
        let best = [&undisturbed, &stopped]
            .map(|f| std::fs::read(f.output().join(name).join("model_best.safetensors")).unwrap());
        assert!(best[0] == best[1], "{name}: the best network differs");
    }
}

#[test]
fn classifier_mistakes_are_reported_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let mut run_file = file(folder.path());
    let refused = |file: &RunFile, words: &str, expected: i32| {
        let path = file.write().to_owned();
        let (code, _, err) = run(&["linear", "-f", &path, "--metrics-addr", "127.0.0.1:0"]);
        assert_eq!(code, expected, "{err}");
        assert!(err.contains(words), "{err}");
    };
    refused(&run_file, "no valid checkpoint to evaluate; run the pretrain stage first", 65);
    stage(&run_file, "run", "1");
    // A flat folder has no classes.
    let class = std::fs::read_dir(run_file.spec["dataset"]["train"].as_str().unwrap()).unwrap().next().unwrap();
    run_file.set("/dataset/train", json!(class.unwrap().path()));
    refused(&run_file, "spec.linear", 78);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
