//! `simsiam doctor`, and commands that ask for GPUs, on a machine without one.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::path::Path;

use serde_json::Value;
use simsiam_tests::{RunFile, run, synth, text};

/// What these tests check has another outcome where there is a driver.
fn has_driver() -> bool {
    let found = Path::new("/proc/driver/nvidia/version").exists();
    if found {
        println!("skipped: this machine has an NVIDIA driver");
    }
    found
}

/// The report's checks by name.
fn checks(out: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"));
    let word = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    report["checks"].as_array().unwrap().iter().map(|check| (word(check, "name"), word(check, "state"))).collect()
}

fn state<'a>(checks: &'a [(String, String)], name: &str) -> &'a str {
    &checks.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name} in {checks:?}")).1
}

#[test]
fn doctor_without_gpus_reports_this_machine_and_its_output() {
    if has_driver() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = run(&["doctor", "--json", "--output", text(&folder.path().join("out"))]);
    assert_eq!(code, 0, "{out}\n{err}");
    let checks = checks(&out);
    assert_eq!((state(&checks, "CUDA"), state(&checks, "output")), ("slow", "ok"));
    for name in ["CUDA libraries", "CPU", "/dev/shm", "cache"] {
        state(&checks, name);
    }
}

#[test]
fn doctor_with_gpus_that_are_missing_exits_with_78() {
    if has_driver() {
        return;
    }
    let (code, out, err) = run(&["doctor", "--gpus", "1"]);
    assert_eq!(code, 78, "{out}\n{err}");
    let line = out.lines().find(|line| line.starts_with("WRONG  CUDA ")).unwrap_or_else(|| panic!("{out}"));
    assert!(line.contains("no NVIDIA driver") || line.contains("for CPUs only"), "{line}");
    assert!(
        out.contains("its tag ends with -cuda") && err.contains("checks failed: CUDA libraries, CUDA"),
        "{out}\n{err}"
    );
}

#[test]
fn doctor_names_storage_and_a_node_that_do_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let node = ["--master-addr", "127.0.0.1", "--master-port", "9", "--timeout", "1"];
    let (code, out, err) = run(&[&["doctor", "--json", "--output", text(&file)], &node[..]].concat());
    assert_eq!(code, 78, "{out}\n{err}");
    let checks = checks(&out);
    assert_eq!((state(&checks, "output"), state(&checks, "node 0")), ("wrong", "wrong"));
}

#[test]
fn run_with_gpus_that_are_missing_exits_with_78_and_says_why() {
    if has_driver() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = synth(folder.path(), 4, 2);
    let file = RunFile::new(folder.path(), &data, "val");
    let (code, out, err) = run(&["run", "-f", file.write(), "--gpus", "2", "--metrics-addr", "127.0.0.1:0"]);
    assert_eq!(code, 78, "{out}\n{err}");
    let line = err.lines().find(|line| line.contains("2 GPUs were requested")).unwrap_or_else(|| panic!("{err}"));
    for part in ["--gpus", "CUDA is unavailable", "libtorch 2.11.0"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
