//! Checkpoints on S3: written, resumed after SIGKILL, retired, and the errors of a wrong bucket and wrong keys.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::{Value, json};
use simsiam_tests::{RunFile, command, kill, synth, told, until};
use tokio::net::TcpListener;

/// An S3 server over a folder; each folder in it is a bucket. It checks signatures.
struct Server {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(root: &Path) -> Self {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        let service = builder.build();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    fn output(&self, uri: &str) -> Value {
        json!({"uri": uri, "endpoint": format!("http://{}", self.address), "region": "us-east-1"})
    }
}

fn with_keys(file: &str, secret: &str) -> Command {
    let mut command = command(&["run", "-f", file, "--metrics-addr", "127.0.0.1:0"]);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", secret);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_run_on_s3_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("buckets/models");
    std::fs::create_dir_all(&bucket).unwrap();
    let server = Server::start(bucket.parent().unwrap());
    let data = synth(folder.path(), 30, 2);

    // The same run on a local folder says what must come out.
    let mut local = RunFile::new(folder.path(), &data, "val");
    local.set("/pretrain/epochs", 4.into()).set("/checkpoint", json!({"everySteps": 4, "keepLast": 2}));
    let (code, _, err) = told(with_keys(local.write(), "secret").output().unwrap());
    assert_eq!(code, 0, "{err}");
    let expected = local.result();

    let mut remote = local.clone();
    remote.set("/output", server.output("s3://models/team/run-1"));
    let file = remote.write().to_owned();
    let child = with_keys(&file, "secret").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoints = bucket.join("team/run-1/checkpoints");
    until(Duration::from_secs(120), "a checkpoint on S3", || {
        checkpoints.join("step-000000008-a1/manifest.json").exists().then_some(())
    });
    kill(child);
    let (code, _, err) = told(with_keys(&file, "secret").output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("resumed after step"), "{err}");
    let result = std::fs::read(bucket.join("team/run-1/result.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["weightsSha256"], expected["weightsSha256"]);
    let manifests =
        std::fs::read_dir(&checkpoints).unwrap().filter(|d| d.as_ref().unwrap().path().join("manifest.json").exists());
    assert_eq!(manifests.count(), 2, "keepLast: 2");

    let mut missing = local.clone();
    missing.set("/output", server.output("s3://no-such-bucket/run"));
    let (code, _, err) = told(with_keys(missing.write(), "secret").output().unwrap());
    assert_eq!(code, 78, "{err}");
    assert!(
        err.contains("spec.output.uri") && err.contains("no-such-bucket") && err.contains("does not exist"),
        "{err}"
    );

    let (code, _, err) = told(with_keys(remote.write(), "wrong").output().unwrap());
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("spec.output.uri") && err.contains("s3://models/team/run-1"), "{err}");
    assert!(err.contains("credentials"), "{err}");
}
