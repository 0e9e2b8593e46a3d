//! Checkpoints on S3: written, resumed after SIGKILL, retired, and the errors of a wrong bucket and wrong keys. Weights
//! from there and to there.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use simsiam_tests::s3::Server;
use simsiam_tests::{RunFile, command, kill, output_of, root, synth, tensors, text, wait_until};

fn output(server: &Server, uri: &str) -> Value {
    json!({"uri": uri, "endpoint": server.endpoint(), "region": "us-east-1"})
}

fn with_keys(file: &str, secret: &str) -> Command {
    let mut command = command(&["run", "-f", file, "--metrics-addr", "127.0.0.1:0"]);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", secret);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn run_on_s3_killed_by_sigkill_resumes_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("buckets/models");
    std::fs::create_dir_all(&bucket).unwrap();
    let server = Server::start(bucket.parent().unwrap());
    let data = synth(folder.path(), 30, 2);

    // The same run on a local folder gives the expected result.
    let mut local = RunFile::new(folder.path(), &data, "val");
    local.set("/pretrain/epochs", 4.into()).set("/checkpoint", json!({"everySteps": 4, "keepLast": 2}));
    let (code, _, err) = output_of(with_keys(local.write(), "secret").output().unwrap());
    assert_eq!(code, 0, "{err}");
    let expected = local.result();

    let mut remote = local.clone();
    remote.set("/output", output(&server, "s3://models/team/run-1"));
    let file = remote.write().to_owned();
    let child = with_keys(&file, "secret").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoints = bucket.join("team/run-1/checkpoints");
    wait_until(Duration::from_secs(120), "a checkpoint on S3", || {
        checkpoints.join("step-000000008-a1/manifest.json").exists().then_some(())
    });
    kill(child);
    let (code, _, err) = output_of(with_keys(&file, "secret").output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("resumed after step"), "{err}");
    let result = std::fs::read(bucket.join("team/run-1/result.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["weightsSha256"], expected["weightsSha256"]);
    let manifests =
        std::fs::read_dir(&checkpoints).unwrap().filter(|d| d.as_ref().unwrap().path().join("manifest.json").exists());
    assert_eq!(manifests.count(), 2, "keepLast: 2");

    let mut missing = local.clone();
    missing.set("/output", output(&server, "s3://no-such-bucket/run"));
    let (code, _, err) = output_of(with_keys(missing.write(), "secret").output().unwrap());
    assert_eq!(code, 78, "{err}");
    assert!(
        err.contains("spec.output.uri") && err.contains("no-such-bucket") && err.contains("does not exist"),
        "{err}"
    );

    let (code, _, err) = output_of(with_keys(remote.write(), "wrong").output().unwrap());
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("spec.output.uri") && err.contains("s3://models/team/run-1"), "{err}");
    assert!(err.contains("credentials"), "{err}");
}

/// Weights are read from S3, exported to S3 and converted from and to it; the files equal those of a local run.
#[test]
fn weights_are_read_from_and_written_to_s3() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("buckets/models");
    std::fs::create_dir_all(bucket.join("theirs")).unwrap();
    let server = Server::start(bucket.parent().unwrap());
    let reference = root().join("tests/parity/checkpoints/reference.pth.tar");
    std::fs::copy(&reference, bucket.join("theirs/reference.pth.tar")).unwrap();
    let endpoint = server.endpoint();
    let keyed = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env_remove("AWS_ENDPOINT_URL");
        output_of(command.output().unwrap())
    };
    let finished = |(code, out, err): (i32, String, String)| {
        assert_eq!(code, 0, "{out}\n{err}");
        out + &err
    };

    let data = synth(folder.path(), 5, 2);
    let mut file = RunFile::new(folder.path(), &data, "val");
    for (field, value) in [
        ("baseWidth", json!(4)),
        ("dim", json!(16)),
        ("predDim", json!(8)),
        ("projector", json!({"layers": 2, "hiddenDim": 32})),
        ("batchSize", json!(24)),
        ("epochs", json!(4)),
    ] {
        file.set(&format!("/pretrain/{field}"), value);
    }
    file.set("/output", output(&server, "s3://models/run"));
    file.set("/weights", json!("s3://models/theirs/reference.pth.tar"));
    file.set("/export", json!(["safetensors", "pth"]));
    let path = file.write().to_owned();
    let run = |ranks| keyed(&["run", "-f", &path, "--nproc", ranks, "--metrics-addr", "127.0.0.1:0"]);
    let said = finished(run("2"));
    assert!(said.contains("momentum loaded, 3 of 4 epochs done"), "{said}");
    let stage = bucket.join("run/export/backbone.safetensors");
    let exported = std::fs::read(&stage).unwrap();

    // By hand: elsewhere on S3, then from one of our checkpoints and from a file, to S3 and from there.
    let there = ["--endpoint", &endpoint, "--region", "us-east-1"];
    finished(keyed(&["export", "-f", &path, "--format", "safetensors", "-o", "s3://models/elsewhere"]));
    assert_eq!(std::fs::read(bucket.join("elsewhere/backbone.safetensors")).unwrap(), exported);
    let checkpoint = std::fs::read_dir(bucket.join("run/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).max();
    let checkpoint = format!("s3://models/run/checkpoints/{}", checkpoint.unwrap().to_str().unwrap());
    let local = folder.path().join("local.safetensors");
    let convert = |from: &str, to: &str, format: &str| {
        keyed(&[&["convert", from, to, "--format", format][..], &there[..]].concat())
    };
    finished(convert(&checkpoint, text(&local), "safetensors"));
    assert_eq!(std::fs::read(&local).unwrap(), exported);
    finished(convert(text(&local), "s3://models/converted/r18.pkl", "detectron2"));
    finished(convert("s3://models/converted/r18.pkl", "s3://models/back.safetensors", "safetensors"));
    assert!(tensors(&bucket.join("back.safetensors")) == tensors(&stage), "a pickle has no metadata, but every tensor");
    let knn = |weights: &str| finished(keyed(&["knn", "-f", &path, "--weights", weights]));
    let shown = |said: String| said.lines().find(|line| line.contains("trained")).unwrap().to_owned();
    assert_eq!(shown(knn("s3://models/back.safetensors")), shown(knn(text(&local))));

    // What is not there is named by what the user wrote.
    for missing in ["s3://models/none.pth", "s3://no-such-bucket/a.pth"] {
        let (code, _, err) = convert(missing, text(&local), "pth");
        assert!(code == 65 && err.contains(missing), "{code} {err}");
    }
    file.set("/output/uri", json!("s3://models/other")).set("/weights", json!("s3://models/theirs/none.pth.tar"));
    let other = file.write().to_owned();
    let (code, _, err) = keyed(&["run", "-f", &other, "--metrics-addr", "127.0.0.1:0"]);
    assert!(code == 65 && err.contains("s3://models/theirs/none.pth.tar"), "{code} {err}");
}
