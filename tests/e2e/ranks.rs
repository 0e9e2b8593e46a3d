//! One rank or several, one node or several: the same run.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simsiam_tests::{RunFile, command, output_of, run_ok, synth};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn five_steps(folder: &std::path::Path) -> RunFile {
    // 5 steps: one epoch of 240 images.
    let data = synth(folder, 24, 2);
    let mut file = RunFile::new(folder, &data, "val");
    file.set("/pretrain/epochs", 1.into());
    file
}

/// Largest ‖a − b‖ / ‖b‖ over all tensors. A running mean is measured in its own batch norm's standard deviations:
/// the predictor's is zero but for rounding, since its input has no mean.
fn distance(a: &RunFile, b: &RunFile) -> (f64, String) {
    let (a, weights) = (a.weights(a.checkpoints().last().unwrap()), b.weights(b.checkpoints().last().unwrap()));
    assert_eq!(a.keys().collect::<Vec<_>>(), weights.keys().collect::<Vec<_>>());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    a.iter()
        .map(|(name, a)| {
            let b = &weights[name];
            let difference = norm(&mut a.iter().zip(b.iter()).map(|(a, b)| a - b));
            let scale = match name.strip_suffix("running_mean") {
                Some(layer) => norm(&mut weights[&format!("{layer}running_var")].iter().map(|v| v.sqrt())),
                None => norm(&mut b.iter().copied()),
            };
            (difference / scale.max(1e-12), name.clone())
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap()
}

/// Mean loss over all steps, from the journal. That of `result.json` covers the last interval, whose length depends on the
/// speed of the machine.
fn mean_loss(file: &RunFile) -> f64 {
    let journal = std::fs::read_to_string(file.output().join("logs/metrics-pretrain-a1.jsonl")).unwrap();
    let (mut sum, mut steps) = (0.0, 0.0);
    for line in journal.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["kind"] == "training" {
            let step = record["step"].as_f64().unwrap();
            sum += record["loss"].as_f64().unwrap() * (step - steps);
            steps = step;
        }
    }
    assert_eq!(steps, 5.0, "{journal}");
    sum / steps
}

#[test]
fn two_ranks_train_like_one() {
    let folder = tempfile::tempdir().unwrap();
    let one = five_steps(folder.path());
    run_ok(&["run", "-f", one.write(), "--nproc", "1", "--metrics-addr", "127.0.0.1:0"]);
    let mut two = one.clone();
    two.set("/output/uri", json!(folder.path().join("two")));
    run_ok(&["run", "-f", two.write(), "--nproc", "2", "--metrics-addr", "127.0.0.1:0"]);
    let (worst, name) = distance(&two, &one);
    assert!(worst < 1e-3, "{name}: {worst:e}");
    assert!(
        worst > 0.0,
        "sums in another order give other last bits; equal files would mean that nothing was compared"
    );
    let loss = |file: &RunFile| mean_loss(file);
    assert!((loss(&one) - loss(&two)).abs() < 1e-5, "{} {}", loss(&one), loss(&two));
}

/// Targets with the batch statistics of all ranks, from micro-batches: with one step an interval nothing changes.
#[test]
fn alternation_of_one_step_on_two_ranks_equals_simsiam() {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = five_steps(folder.path());
    plain.set("/pretrain/accumulate", 2.into());
    let mut alternating = plain.clone();
    alternating.set("/pretrain/alternation", json!({"steps": 1})).set("/output/uri", json!(folder.path().join("a")));
    for file in [&plain, &alternating] {
        run_ok(&[
            "run",
            "-f",
            file.write(),
            "--nproc",
            "2",
            "--threads-per-rank",
            "1",
            "--metrics-addr",
            "127.0.0.1:0",
        ]);
    }
    assert_eq!(alternating.result()["weightsSha256"], plain.result()["weightsSha256"]);
}

fn worker(file: &str, arguments: &[&str]) -> Child {
    let mut all = vec!["worker", "-f", file, "--metrics-addr", "127.0.0.1:0", "--threads-per-rank", "1"];
    all.extend(arguments);
    command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn two_nodes_rendezvous_by_torchrun_and_reference_flags() {
    let folder = tempfile::tempdir().unwrap();
    let reference = five_steps(folder.path());
    run_ok(&[
        "run",
        "-f",
        reference.write(),
        "--nproc",
        "2",
        "--threads-per-rank",
        "1",
        "--metrics-addr",
        "127.0.0.1:0",
    ]);
    for flags in ["torchrun", "reference"] {
        let mut file = reference.clone();
        file.set("/output/uri", json!(folder.path().join(flags)));
        let path = file.write().to_owned();
        let port = free_port();
        let node = |rank: usize| {
            let rank = rank.to_string();
            let (port, url) = (port.to_string(), format!("tcp://127.0.0.1:{port}"));
            match flags {
                "torchrun" => worker(
                    &path,
                    &[
                        "--nnodes",
                        "2",
                        "--node-rank",
                        &rank,
                        "--nproc-per-node",
                        "1",
                        "--master-addr",
                        "127.0.0.1",
                        "--master-port",
                        &port,
                    ],
                ),
                _ => {
                    worker(&path, &["--dist-url", &url, "--world-size", "2", "--rank", &rank, "--nproc-per-node", "1"])
                }
            }
        };
        // The second node is there long before the first.
        let second = node(1);
        std::thread::sleep(Duration::from_secs(1));
        let first = node(0);
        for child in [first, second] {
            let (code, _, err) = output_of(child.wait_with_output().unwrap());
            assert_eq!(code, 0, "{flags}: {err}");
        }
        let sha = |file: &RunFile| file.weights(file.checkpoints().last().unwrap());
        assert_eq!(sha(&file), sha(&reference), "{flags}: two nodes of one rank are two ranks of one node");
    }
}

#[test]
fn killed_rank_ends_the_other_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = five_steps(folder.path());
    file.set("/pretrain/epochs", 400.into());
    let path = file.write().to_owned();
    let child = worker(&path, &["--nproc-per-node", "2"]);
    std::thread::sleep(Duration::from_secs(6));
    // The agent's children are its ranks.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let pids: Vec<i32> = children.split_whitespace().map(|p| p.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "two ranks: {children}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[1]), nix::sys::signal::Signal::SIGKILL).unwrap();
    let start = Instant::now();
    let (code, _, err) = output_of(child.wait_with_output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("SIGKILL") || err.contains("lost"), "{err}");
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(!status.contains("simsiam"), "rank {pid} outlived its agent:\n{status}");
    }
}

/// As PID 1 of a pod an agent without handlers would not hear it, and hold its node for the whole grace period.
#[test]
fn agent_waiting_for_node_0_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = RunFile::new(folder.path(), folder.path(), "val");
    let port = free_port().to_string();
    let place =
        ["--nnodes=2", "--node-rank=1", "--master-addr=127.0.0.1", "--rendezvous-timeout=20", "--master-port", &port];
    let child = worker(file.set("/pretrain/epochs", 1.into()).write(), &place);
    // Its handlers are set before it looks for node 0 for the first time.
    std::thread::sleep(Duration::from_secs(2));
    let asked = Instant::now();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let (code, _, err) = output_of(child.wait_with_output().unwrap());
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("stopped by SIGTERM before the ranks were started"), "{err}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
