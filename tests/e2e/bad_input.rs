//! Every mistake ends with one clear line that names its cause, with the exit code of its kind, and without data loss.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use simsiam_tests::{RunFile, run, run_ok, synth, text};

const QUIET: [&str; 2] = ["--metrics-addr", "127.0.0.1:0"];

/// Runs a file and checks the exit code; one line of the output must contain all words.
fn fails(file: &RunFile, more: &[&str], code: i32, words: &[&str]) {
    let mut arguments = vec!["run", "-f", file.write()];
    arguments.extend(QUIET);
    arguments.extend(more);
    expect(&arguments, code, words);
}

fn expect(arguments: &[&str], code: i32, words: &[&str]) {
    let (found, out, err) = run(arguments);
    assert_eq!(found, code, "{arguments:?}\n{out}\n{err}");
    let line = err.lines().find(|line| words.iter().all(|word| line.contains(word)));
    assert!(line.is_some(), "no line has all of {words:?}:\n{err}");
    assert!(!err.contains("panicked"), "{err}");
}

fn file(folder: &Path) -> RunFile {
    let data = synth(folder, 10, 2);
    let mut file = RunFile::new(folder, &data, "val");
    file.set("/pretrain/epochs", 1.into());
    file
}

#[test]
fn unknown_or_invalid_fields_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path());
    let mut bad = good.clone();
    bad.set("/pretrain/epoch", 3.into());
    fails(&bad, &[], 78, &["spec.pretrain.epoch", "epochs"]);
    let mut bad = good.clone();
    bad.set("/pretrain/epochs", "many".into());
    fails(&bad, &[], 78, &["spec.pretrain.epochs", "many"]);
    let mut bad = good.clone();
    bad.set("/pretrain/batchSize", 0.into());
    fails(&bad, &[], 78, &["spec.pretrain.batchSize", "0"]);
    // `validate` says the same.
    expect(&["validate", "-f", bad.write()], 78, &["spec.pretrain.batchSize", "0"]);
    fs::write(folder.path().join("broken.yaml"), "spec: [").unwrap();
    expect(&["run", "-f", text(&folder.path().join("broken.yaml"))], 78, &["broken.yaml"]);
    expect(&["run", "-f", text(&folder.path().join("none.yaml"))], 78, &["none.yaml"]);
}

#[test]
fn batch_that_does_not_fit_ranks_or_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path());
    fails(&good, &["--nproc", "5"], 78, &["spec.pretrain.batchSize", "48", "5 ranks"]);
    let mut bad = good.clone();
    bad.set("/pretrain/batchSize", 128.into());
    fails(&bad, &[], 65, &["100 images", "batch of 128", "batchSize"]);
}

#[test]
fn folder_without_images_ends_with_65() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let mut bad = good.clone();
    bad.set("/dataset/train", json!(empty));
    fails(&bad, &[], 65, &["empty"]);
    fs::write(empty.join("notes.txt"), "no image").unwrap();
    fails(&bad, &[], 65, &[text(&empty)]);
    let mut bad = good.clone();
    bad.set("/dataset/train", json!(folder.path().join("missing")));
    fails(&bad, &[], 65, &["missing"]);
}

#[test]
fn unreadable_image_is_replaced_or_ends_with_65() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path());
    let train = folder.path().join("data/train");
    let class = fs::read_dir(&train).unwrap().next().unwrap().unwrap().path();
    let image = fs::read_dir(&class).unwrap().next().unwrap().unwrap().path();
    fs::write(&image, "not an image").unwrap();
    let name = image.file_name().unwrap().to_str().unwrap();
    // The 2 batches of an epoch use 96 of 100 images, so one epoch may omit the bad image; 12 epochs don't.
    let mut strict = good.clone();
    strict.set("/pretrain/epochs", 12.into());
    fails(&strict, &[], 65, &[name, "maxCorrupt"]);
    let mut lenient = strict.clone();
    lenient.set("/dataset/maxCorrupt", 1.into()).set("/output/uri", json!(folder.path().join("lenient")));
    let (code, _, err) = run(&["run", "-f", lenient.write(), "--metrics-addr", "127.0.0.1:0"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.lines().any(|l| l.contains("replaced") && l.contains(name)), "{err}");
}

#[test]
fn checkpoint_of_another_architecture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path());
    run_ok(&["run", "-f", good.write(), "--metrics-addr", "127.0.0.1:0"]);
    let before = good.checkpoints();
    let mut other = good.clone();
    other.set("/pretrain/arch", "resnet34".into());
    fails(&other, &[], 65, &["checkpoint", "spec.pretrain.arch", "resnet18", "resnet34"]);
    assert_eq!(good.checkpoints(), before, "no checkpoint is lost");
}

#[test]
fn unreachable_master_or_taken_port_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path());
    let path = good.write();
    let quiet = |more: &[&'static str]| {
        let mut all = vec!["worker", "--metrics-addr", "127.0.0.1:0", "--rendezvous-timeout", "3"];
        all.extend(more);
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let go = |arguments: Vec<String>, code, words: &[&str]| {
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend(["-f", path]);
        expect(&all, code, words);
    };
    // Port 1 of the loopback: nobody listens there.
    let nodes = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1", "--master-port", "1"];
    go(quiet(&nodes), 75, &["127.0.0.1:1", "--master-addr"]);
    let names = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "no-such-host.invalid"];
    go(quiet(&names), 75, &["no-such-host.invalid"]);
    go(quiet(&["--nnodes", "2"]), 64, &["--node-rank"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut taken = quiet(&["--nnodes", "1", "--master-addr", "127.0.0.1", "--master-port"]);
    taken.push(port.clone());
    go(taken, 75, &[&port, "in use"]);
    expect(&["run", "-f", path, "--metrics-addr", &format!("127.0.0.1:{port}")], 64, &[&port, "--metrics-addr"]);
}

#[test]
fn full_disk_ends_with_75() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |size: &str| {
        Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&disk).status().is_ok_and(|s| s.success())
    };
    if !mount("size=2m") {
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        return;
    }
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(disk.clone());
    let good = file(folder.path());
    let mut full = good.clone();
    // A checkpoint of this network has about 1.4 MB: the first fits, the second does not.
    full.set("/output/uri", json!(disk)).set("/checkpoint", json!({"everySteps": 1}));
    fails(&full, &[], 75, &["No space left", "free some space"]);
    let valid = full.checkpoints();
    assert!(!valid.is_empty() && valid[0].starts_with("step-000000001"), "complete checkpoints are kept: {valid:?}");
    // With free space the run resumes from there.
    assert!(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk).status().unwrap().success());
    let (code, _, err) = run(&["run", "-f", full.write(), "--metrics-addr", "127.0.0.1:0"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("resumed after step 1"), "{err}");
}

/// A run whose weights grow by a factor of about 190 in each step.
fn diverging(folder: &Path) -> RunFile {
    let mut file = file(folder);
    file.set("/pretrain/epochs", 40.into()).set("/pretrain/lr", 1000.into()).set("/pretrain/weightDecay", 1.into());
    file
}

#[test]
fn loss_that_is_not_finite_leaves_its_place_samples_and_figures() {
    let folder = tempfile::tempdir().unwrap();
    let file = diverging(folder.path());
    fails(
        &file,
        &["--nproc", "2"],
        86,
        &["the loss became", "first in step", "diverged/pretrain-a1.json", "pretrain.lr"],
    );
    let reports = file.output().join("diverged");
    let names: Vec<_> =
        fs::read_dir(&reports).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["pretrain-a1.json"], "nothing else is left");
    let report: Value = serde_json::from_slice(&fs::read(reports.join("pretrain-a1.json")).unwrap()).unwrap();
    let noticed = report["step"].as_u64().unwrap();
    let ranks = report["ranks"].as_array().unwrap();
    assert_eq!(ranks.len(), 2, "{report:#}");
    let mut samples = Vec::new();
    for (rank, found) in ranks.iter().enumerate() {
        assert_eq!(found["rank"], rank, "{report:#}");
        let step = found["step"].as_u64().unwrap();
        assert!(step <= noticed && noticed - step < 10, "{report:#}");
        let names = found["samples"].as_array().unwrap();
        assert_eq!(names.len(), 24, "a rank's half of the batch: {report:#}");
        samples.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
    }
    let place = ranks.iter().find_map(|found| found["place"].as_object()).unwrap();
    let (what, layer) = (place["what"].as_str().unwrap(), place["layer"].as_str().unwrap());
    assert!(["output", "gradient", "update"].contains(&what), "the weights were finite before the step: {report:#}");
    assert!(layer.starts_with("encoder.") || layer.starts_with("predictor."), "{report:#}");
    samples.sort();
    samples.dedup();
    assert_eq!(samples.len(), 48, "the ranks have different samples");
    let train = folder.path().join("data/train");
    assert!(samples.iter().all(|name| train.join(name).exists()), "{samples:?}");
    let recent = report["recent"].as_array().unwrap();
    assert!(!recent.is_empty() && recent.iter().all(|step| step["loss"].is_f64()), "{report:#}");
}

#[test]
fn loss_that_is_not_finite_ends_with_86_even_if_nothing_can_be_written_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = diverging(folder.path());
    fs::create_dir_all(file.output()).unwrap();
    // A file where the folder should be.
    fs::write(file.output().join("diverged"), "in the way").unwrap();
    let (code, _, err) = run(&["run", "-f", file.write(), QUIET[0], QUIET[1]]);
    assert_eq!(code, 86, "{err}");
    assert!(err.contains("the loss became") && err.contains("first in step"), "{err}");
    assert!(err.contains("diverged/pretrain-a1.json could not be written"), "{err}");
}

#[test]
fn bad_usage_ends_with_64() {
    expect(&["run"], 64, &["--file"]);
    expect(&["trian"], 64, &["trian"]);
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in ["run", "validate", "worker", "knn", "data", "Exit codes"] {
        assert!(out.contains(word), "{word} is not in\n{out}");
    }
}
