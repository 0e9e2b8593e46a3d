//! Runs that report to a real MLflow server: one that is there, one that is away, one that is killed; and runs that are killed.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use simsiam_tests::mlflow::{CREDENTIALS, Mlflow, value};
use simsiam_tests::{RunFile, command, kill, output_of, synth, wait_until};

/// A `simsiam` command that knows the server's user.
fn simsiam(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("MLFLOW_TRACKING_USERNAME", CREDENTIALS.0).env("MLFLOW_TRACKING_PASSWORD", CREDENTIALS.1);
    command.env_remove("MLFLOW_TRACKING_TOKEN").env_remove("SIMSIAM_LOG");
    command
}

fn run_command(file: &RunFile) -> Command {
    simsiam(&["run", "-f", file.write(), "--nproc", "1", "--threads-per-rank", "1", "--metrics-addr", "127.0.0.1:0"])
}

fn background(file: &RunFile) -> Child {
    run_command(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command, expects success, and returns its output with its messages.
fn ok(mut command: Command) -> String {
    let (code, out, err) = output_of(command.output().unwrap());
    assert_eq!(code, 0, "{out}\n{err}");
    out + &err
}

/// A small run that reports to the server at `address`.
fn tracked(folder: &Path, address: &str, experiment: &str) -> RunFile {
    let data = synth(folder, 24, 4);
    let mut file = RunFile::new(folder, &data, "val");
    file.set("/track", json!({"mlflow": {"uri": Mlflow::uri(address), "experiment": experiment}}));
    file
}

/// All records of a stage's attempts in the journal.
fn journal(file: &RunFile, kind: &str) -> Vec<Value> {
    let Ok(folder) = fs::read_dir(file.output().join("logs")) else { return Vec::new() };
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let journals = names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let lines = journals.flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    });
    lines.filter(|line| line["kind"] == kind).collect()
}

/// The values of pre-training under a key of the journal, by step; an uninterrupted run has each step once.
fn training(file: &RunFile, key: &str) -> Vec<(u64, f64)> {
    let records = journal(file, "training").into_iter().filter(|record| record["stage"] == "pretrain");
    records.filter_map(|record| Some((record["step"].as_u64()?, record[key].as_f64()?))).collect()
}

fn status(run: &Value) -> &str {
    run["info"]["status"].as_str().unwrap()
}

/// Every value of the journal is on the server, once and unchanged.
fn assert_has_the_journal(server: &Mlflow, run: &Value, file: &RunFile) {
    for (key, of_journal) in [
        ("pretrain/loss", "loss"),
        ("pretrain/output_std", "outputStd"),
        ("pretrain/lr/encoder", "lrEncoder"),
        ("throughput/images_per_second", "imagesPerSecond"),
    ] {
        let expected = training(file, of_journal);
        assert!(expected.len() > 2, "{key}: {expected:?}");
        assert_eq!(server.history(run, key), expected, "{key}");
    }
}

#[test]
fn run_is_in_mlflow_with_parameters_metrics_and_artifacts() {
    let Some(address) = Mlflow::free_address() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Mlflow::start(&address, folder.path());
    let mut file = tracked(folder.path(), &address, "whole");
    file.set("/pretrain/epochs", 3.into())
        .set("/knn", json!({"everyEpochs": 1, "protocols": [{"k": 5, "temperature": 0.07}]}))
        .set("/linear", json!({"epochs": 2, "batchSize": 40, "lr": 3, "optimizer": "sgd"}))
        .set("/report", json!({"views": 2, "queries": 2, "points": 20}));
    let said = ok(run_command(&file));
    assert!(said.contains("MLflow has everything that was measured: http://"), "{said}");
    assert!(!said.contains(CREDENTIALS.1), "{said}");

    let run = server.run("whole");
    assert_eq!((status(&run), run["info"]["run_name"].as_str()), ("FINISHED", Some("test")));
    let (params, tags) = (&run["data"]["params"], &run["data"]["tags"]);
    for (key, expected) in [
        ("pretrain.lr", "0.03"),
        ("pretrain.arch", "resnet18"),
        ("pretrain.momentum", "0.9"),
        ("pretrain.augment.cropSize", "32"),
        ("linear.optimizer", "sgd"),
    ] {
        assert_eq!(value(params, key), Some(expected), "{key}: {params}");
    }
    let result = file.result();
    assert_eq!(value(tags, "simsiam.weightsSha256"), result["weightsSha256"].as_str());
    assert_eq!((value(tags, "simsiam.attempt.pretrain"), value(tags, "simsiam.worldSize")), (Some("1"), Some("1")));
    assert_eq!((value(tags, "simsiam.reason"), value(tags, "simsiam.stage")), (None, Some("report")));

    assert_has_the_journal(&server, &run, &file);
    let of = |kind: &str| journal(&file, kind);
    // The stage at the end evaluates the last epoch again, with the same result: it is there once.
    let knn: BTreeMap<_, _> = of("knn")
        .into_iter()
        .filter(|record| record["features"] == "trained")
        .map(|record| (record["step"].as_u64().unwrap(), record["scores"][0]["top1"].as_f64().unwrap()))
        .collect();
    assert_eq!(server.history(&run, "knn/top1"), Vec::from_iter(knn.clone()));
    assert_eq!(server.history(&run, "knn/top1_k5_T0.07"), Vec::from_iter(knn));
    let linear: Vec<_> =
        of("linear").iter().map(|r| (r["epoch"].as_f64().unwrap() as u64, r["top1"].as_f64().unwrap())).collect();
    assert_eq!((server.history(&run, "linear/top1"), linear.len()), (linear, 2));

    for name in ["run.yaml", "result.json", "report.html"] {
        let path = if name == "run.yaml" { file.write().into() } else { file.output().join(name) };
        assert!(server.artifact(&run, name) == fs::read(path).unwrap(), "{name}");
    }
    let again = ok(simsiam(&["track", "-f", file.write()]));
    assert!(again.starts_with("0 values sent, 0 refused: http://"), "{again}");

    wrong_password_is_said_once(&server, &file);
    failed_run_is_marked(&server, &file);
}

fn wrong_password_is_said_once(server: &Mlflow, file: &RunFile) {
    let mut file = file.clone();
    file.set("/output/uri", json!(file.output().with_file_name("wrong")))
        .set("/track/mlflow/experiment", json!("wrong"));
    for stage in ["/knn", "/linear", "/report"] {
        file.set(stage, Value::Null);
    }
    let mut run = run_command(&file);
    run.env("MLFLOW_TRACKING_PASSWORD", "hunter2");
    let said = ok(run);
    assert_eq!(said.matches("the server refuses the credentials (HTTP 401").count(), 1, "{said}");
    assert!(said.contains("spec.track.mlflow") && !said.contains("hunter2"), "{said}");
    assert!(server.runs("wrong").is_empty());
    let mut track = simsiam(&["track", "-f", file.write()]);
    let (code, _, err) = output_of(track.env("MLFLOW_TRACKING_PASSWORD", "hunter2").output().unwrap());
    assert!(code == 78 && err.contains("spec.track.mlflow: the server refuses"), "{code}: {err}");
    // With the right one, the rest is sent, with how the run ended.
    ok(simsiam(&["track", "-f", file.write()]));
    let run = server.run("wrong");
    assert_eq!(status(&run), "FINISHED");
    assert_has_the_journal(server, &run, &file);
}

fn failed_run_is_marked(server: &Mlflow, file: &RunFile) {
    let mut file = file.clone();
    file.set("/output/uri", json!(file.output().with_file_name("failed")))
        .set("/track/mlflow/experiment", json!("failed"))
        .set("/dataset/train", json!("/nowhere"));
    let (code, _, err) = output_of(run_command(&file).output().unwrap());
    assert_eq!(code, 65, "{err}");
    let run = server.run("failed");
    let tags = &run["data"]["tags"];
    assert_eq!((status(&run), value(tags, "simsiam.reason")), ("FAILED", Some("BadData")));
    assert!(value(tags, "simsiam.message").unwrap().contains("/nowhere"), "{tags}");
}

#[test]
fn values_of_a_run_without_server_are_sent_by_a_later_command() {
    let Some(address) = Mlflow::free_address() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = tracked(folder.path(), &address, "later");
    let said = ok(run_command(&file));
    assert_eq!(said.matches("cannot be reached").count(), 1, "{said}");
    assert!(said.contains("does not have everything") && said.contains("`simsiam track -f FILE`"), "{said}");
    let (code, _, err) = output_of(simsiam(&["track", "-f", file.write()]).output().unwrap());
    assert!(code == 75 && err.contains("spec.track.mlflow.uri: http://"), "{code}: {err}");

    let server = Mlflow::start(&address, folder.path());
    ok(simsiam(&["track", "-f", file.write()]));
    let run = server.run("later");
    assert_eq!(status(&run), "FINISHED");
    let tags = &run["data"]["tags"];
    assert_eq!(value(tags, "simsiam.weightsSha256"), file.result()["weightsSha256"].as_str());
    assert_eq!(value(tags, "simsiam.attempt.pretrain"), Some("1"));
    assert!(run["info"]["start_time"].as_i64() < run["info"]["end_time"].as_i64(), "{run}");
    assert_has_the_journal(&server, &run, &file);
}

/// The server is killed and comes back while the run trains; then the run is stopped, killed, and resumed.
#[test]
fn interrupted_run_is_one_run_without_gaps_and_duplicates() {
    let Some(address) = Mlflow::free_address() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Mlflow::start(&address, folder.path());
    let mut file = tracked(folder.path(), &address, "interrupted");
    file.set("/pretrain/epochs", 4000.into()).set("/checkpoint", json!({"everySteps": 25, "everyEpochs": 0}));
    let last_step = |server: &Mlflow| {
        let runs = server.runs("interrupted");
        let run = runs.first()?;
        server.history(run, "pretrain/loss").last().map(|(step, _)| *step)
    };
    let beyond = |server: &Mlflow, step: u64| {
        wait_until(Duration::from_secs(120), "values in MLflow", || last_step(server).filter(|last| *last > step))
    };
    let first = background(&file);
    let before = beyond(&server, 0);
    drop(server);
    wait_until(Duration::from_secs(120), "steps without a server", || {
        (training(&file, "loss").last()?.0 > before + 60).then_some(())
    });
    let server = Mlflow::start(&address, folder.path());
    let before = beyond(&server, before);
    assert_eq!(status(&server.run("interrupted")), "RUNNING");

    // After SIGTERM it has a checkpoint, and everything is sent.
    signal(Pid::from_raw(first.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(85));
    let run = server.run("interrupted");
    assert_eq!((status(&run), value(&run["data"]["tags"], "simsiam.reason")), ("KILLED", Some("Preempted")));
    assert_has_the_journal(&server, &run, &file);
    let stopped = training(&file, "loss").last().unwrap().0;
    assert!(stopped >= before, "{stopped} {before}");

    // After SIGKILL the steps since the last checkpoint are repeated.
    let second = background(&file);
    beyond(&server, stopped + 20);
    kill(second);
    let killed = last_step(&server).unwrap();
    let third = background(&file);
    beyond(&server, killed + 20);
    signal(Pid::from_raw(third.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(third.wait_with_output().unwrap().status.code(), Some(85));

    let run = server.run("interrupted");
    assert_eq!(value(&run["data"]["tags"], "simsiam.attempt.pretrain"), Some("3"));
    let losses = server.history(&run, "pretrain/loss");
    // An interval has at most 10 steps.
    let is_next = |pair: &[(u64, f64)]| pair[0].0 < pair[1].0 && pair[1].0 <= pair[0].0 + 10;
    assert!(losses[0].0 <= 10 && losses.windows(2).all(is_next), "{losses:?}");
    assert_eq!(losses.last().unwrap().0, training(&file, "loss").last().unwrap().0);
    let measured = training(&file, "loss");
    for found in &losses {
        // What was measured before SIGKILL may have been sent and not be in the journal.
        assert!(measured.contains(found) || (stopped..=killed).contains(&found.0), "{found:?}");
    }
}
