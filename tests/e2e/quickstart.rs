//! The quickstart, watched as a person would: it learns, and shows that it does.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use simsiam_tests::{command, output_of, root, run_ok, wait_until, weights};

/// One GET, by hand.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.0 200").then(|| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()))?
}

#[test]
fn quickstart_learns_and_reports_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let file = root().join("examples/quickstart.yaml");
    // The paths in the example are relative; here they refer to a temporary folder.
    let simsiam = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.current_dir(folder.path());
        command
    };
    // Fewer images than the quickstart has: the same road in less time.
    let few = ["--train-per-class", "300", "--val-per-class", "50"];
    let synth = simsiam(&[&["data", "synth", "runs/quickstart/data"][..], &few[..]].concat()).output().unwrap();
    assert!(synth.status.success(), "{synth:?}");
    run_ok(&["validate", "-f", file.to_str().unwrap()]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = simsiam(&["run", "-f", file.to_str().unwrap(), "--nproc", "2", "--metrics-addr", &port])
        .env("SIMSIAM_PEAK_FLOPS", "1e12")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A step's all-reduce is reported with the next step.
    let metrics = wait_until(Duration::from_secs(120), "a measured step and its all-reduce", || {
        get(&port, "/metrics").filter(|m| {
            let counts = ["simsiam_images_total", "simsiam_allreduce_seconds_count"];
            counts.iter().all(|count| m.lines().any(|l| l.starts_with(count) && !l.ends_with(" 0")))
        })
    });
    let value = |name: &str| {
        let line =
            metrics.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in\n{metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // 12 × 9.0 million multiply-accumulates an image, over two devices of 10^12 FLOP/s.
    let share = value("simsiam_model_flops_utilization") / value("simsiam_images_per_second ") * 2e12;
    assert!((share / 12.0 - 9.0e6).abs() < 0.5e6, "{share} FLOP an image");
    let (waited, steps) = (value("simsiam_allreduce_seconds_sum"), value("simsiam_step_seconds_sum"));
    assert!(waited > 0.0 && waited < steps, "{waited} s of {steps} s");
    for name in [
        "simsiam_loss ",
        "simsiam_output_std ",
        "simsiam_step_seconds_bucket",
        "simsiam_learning_rate{group=\"predictor\"}",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    // It starts at about 0, where two unrelated directions are, on either side of it.
    let progress = wait_until(Duration::from_secs(120), "a loss well below that of unrelated directions", || {
        let progress: Value = serde_json::from_str(&get(&port, "/progress")?).ok()?;
        (progress["loss"].as_f64()? < -0.1).then_some(progress)
    });
    assert_eq!(progress["stage"], "pretrain");
    assert!(progress["eta"].as_str().unwrap().ends_with('Z'), "{progress}");
    assert_eq!(get(&port, "/healthz").unwrap(), "ok\n");

    let (code, out, err) = output_of(child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{err}");
    let result = std::fs::read(folder.path().join("runs/quickstart/out/result.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    let top1 = |key: &str| result[key]["top1"].as_f64().unwrap();
    let (trained, untrained) = (top1("knn"), top1("knnUntrained"));
    assert!(trained > untrained + 15.0, "trained {trained} %, untrained {untrained} %");
    let (linear, linear_untrained) = (top1("linear"), top1("linearUntrained"));
    assert!(linear > linear_untrained + 30.0, "linear: trained {linear} %, untrained {linear_untrained} %");
    for figure in [trained, untrained, linear, linear_untrained] {
        assert!(out.contains(&format!("{figure:.2} %")), "{figure} is not in the table:\n{out}");
    }
    assert!(result["imagesPerSecond"].as_f64().unwrap() > 0.0);
    assert_eq!(result["weightsSha256"].as_str().unwrap().len(), 64);
    let stages: Vec<_> = result["stages"].as_array().unwrap().iter().map(|stage| &stage["name"]).collect();
    assert_eq!(stages, ["pretrain", "knn", "linear", "export", "report"]);
    weights_and_page_are_there(&folder.path().join("runs/quickstart/out"), &result);
    assert!(err.contains("epoch") && err.contains("std"), "log lines without a terminal:\n{err}");
}

/// What the run is for: weights that can be loaded, and a page to look at.
fn weights_and_page_are_there(output: &Path, result: &Value) {
    let files: Vec<_> = result["exports"].as_array().unwrap().iter().map(|e| e["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["export/backbone.safetensors", "export/backbone.torchvision.pth"]);
    let [safetensors, torchvision] = [files[0], files[1]].map(|file| std::fs::read(output.join(file)).unwrap());
    let tensors = weights(&safetensors);
    assert!(tensors.contains_key("layer4.1.bn2.running_var") && !tensors.keys().any(|name| name.starts_with("fc.")));
    let pickled = simsiam_pth::read(&torchvision).unwrap();
    for (name, values) in &tensors {
        let tensor =
            pickled.get(name).and_then(|value| value.as_tensor()).unwrap_or_else(|| panic!("{name} is missing"));
        let theirs = tensor.data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        assert!(theirs.eq(values.iter().copied()), "{name}");
    }
    let page = result["report"].as_str().unwrap();
    assert!(page.ends_with("runs/quickstart/out/report.html"), "{page}");
    let html = std::fs::read_to_string(output.join("report.html")).unwrap();
    for part in ["linear classification", "nearest neighbours", "quickstart"] {
        assert!(html.to_lowercase().contains(part), "{part} is not on the page");
    }
}
