//! The quickstart, watched as a person would: it learns, and shows that it does.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use simsiam_tests::{command, done, root, told, until};

/// One GET, by hand.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.0 200").then(|| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()))?
}

#[test]
fn it_learns_and_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = root().join("examples/quickstart.yaml");
    // The example's paths are relative: here they start in a folder of our own.
    let simsiam = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.current_dir(folder.path());
        command
    };
    let synth = simsiam(&["data", "synth", "runs/quickstart/data"]).output().unwrap();
    assert!(synth.status.success(), "{synth:?}");
    done(&["validate", "-f", file.to_str().unwrap()]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = simsiam(&["run", "-f", file.to_str().unwrap(), "--nproc", "2", "--metrics-addr", &port])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = until(Duration::from_secs(120), "a measured step", || {
        get(&port, "/metrics")
            .filter(|m| m.lines().any(|l| l.starts_with("simsiam_images_total") && !l.ends_with(" 0")))
    });
    for name in [
        "simsiam_loss ",
        "simsiam_output_std ",
        "simsiam_step_seconds_bucket",
        "simsiam_learning_rate{group=\"predictor\"}",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    // It starts at about 0, where two unrelated directions are, on either side of it.
    let progress = until(Duration::from_secs(120), "a loss well below that of unrelated directions", || {
        let progress: Value = serde_json::from_str(&get(&port, "/progress")?).ok()?;
        (progress["loss"].as_f64()? < -0.1).then_some(progress)
    });
    assert_eq!(progress["stage"], "pretrain");
    assert!(progress["eta"].as_str().unwrap().ends_with('Z'), "{progress}");
    assert_eq!(get(&port, "/healthz").unwrap(), "ok\n");

    let (code, out, err) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{err}");
    let result = std::fs::read(folder.path().join("runs/quickstart/out/result.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    let top1 = |key: &str| result[key]["top1"].as_f64().unwrap();
    let (trained, untrained) = (top1("knn"), top1("knnUntrained"));
    assert!(trained > untrained + 15.0, "trained {trained} %, untrained {untrained} %");
    for figure in [trained, untrained] {
        assert!(out.contains(&format!("{figure:.2} %")), "{figure} is not in the table:\n{out}");
    }
    assert!(result["imagesPerSecond"].as_f64().unwrap() > 0.0);
    assert_eq!(result["weightsSha256"].as_str().unwrap().len(), 64);
    assert_eq!(result["stages"][0]["name"], "pretrain");
    assert!(err.contains("epoch") && err.contains("std"), "log lines where there is no terminal:\n{err}");
}
