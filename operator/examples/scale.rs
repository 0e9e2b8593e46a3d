//! Benchmark of the operator with many runs: `cargo xtask bench operator`.
//!
//! It uses a real API server without kubelets, scheduler and controllers: this program acts as the Job controller and the
//! kubelets, creates the pods of every Job and reports them as running. One stub serves the progress of all first pods.
//! Measured are the operator's own process (its histograms, requests and memory) and the API server's count of LISTs.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use simsiam_operator::api::{SimSiamRun, crd};
use tokio::sync::mpsc;

/// Runs created concurrently if the API server is slower than the rate.
const CREATING: usize = 16;
/// Jobs whose pods are created concurrently.
const PLAYING: usize = 2;
const NAMESPACE: &str = "scale";

/// `cargo xtask bench operator` gives all of them; the defaults are there.
#[derive(Parser)]
struct Options {
    /// The kubeconfig of the API server
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// The operator's program
    #[arg(long)]
    operator: PathBuf,
    #[arg(long)]
    runs: usize,
    /// Pods of each run
    #[arg(long)]
    pods: usize,
    /// Runs created per second; 0 creates them as fast as the API server accepts them
    #[arg(long)]
    rate: u64,
    /// Seconds of steady training to measure
    #[arg(long)]
    steady: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let config = Config::from_custom_kubeconfig(
        kube::config::Kubeconfig::read_from(&options.kubeconfig).expect("a kubeconfig"),
        &Default::default(),
    )
    .await
    .expect("a configuration");
    let client = Client::try_from(config).expect("a client");
    prepare(&client).await;
    let stub = stub().await;
    let listen = free_port();
    let mut operator = start(&options, listen, stub);
    let result = measure(&options, &client, &operator, listen).await;
    let _ = operator.kill();
    let _ = operator.wait();
    if options.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
}

/// Creates the definition and the namespace.
async fn prepare(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("bench").force();
    let crd = crd().expect("a definition");
    crds.patch(&crd.name_any(), &apply, &Patch::Apply(&crd)).await.expect("the definition is accepted");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    }))
    .unwrap();
    namespaces.patch(NAMESPACE, &apply, &Patch::Apply(&namespace)).await.expect("a namespace");
    // A controller would create it.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let account: ServiceAccount =
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}))
            .unwrap();
    accounts.patch("default", &apply, &Patch::Apply(&account)).await.expect("a service account");
    let runs: Api<SimSiamRun> = Api::namespaced(client.clone(), NAMESPACE);
    for _ in 0..100 {
        if runs.list(&Default::default()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the definition was not established");
}

/// The progress of every first pod: one step per second.
async fn stub() -> SocketAddr {
    let begun = Instant::now();
    let answer = move || async move {
        let step = begun.elapsed().as_secs();
        Json(
            json!({"stage": "pretrain", "phase": "training", "epoch": 1, "epochs": 100, "step": step, "steps": 100_000,
            "loss": -0.9, "outputStd": 0.02, "imagesPerSecond": 11_800.0}),
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/progress", get(answer))).await });
    address
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn start(options: &Options, listen: SocketAddr, stub: SocketAddr) -> Child {
    Command::new(&options.operator)
        .env("KUBECONFIG", &options.kubeconfig)
        .args(["--log-format", "text", "--listen", &listen.to_string(), "--progress-stub", &stub.to_string()])
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .spawn()
        .expect("the operator starts")
}

async fn measure(options: &Options, client: &Client, operator: &Child, listen: SocketAddr) -> Value {
    let http = simsiam_operator::progress::client().expect("a client");
    let text = async |url: String| http.get(url).send().await.expect("an answer").text().await.expect("text");
    let metrics = || text(format!("http://{listen}/metrics"));
    for _ in 0..200 {
        if http.get(format!("http://{listen}/readyz")).send().await.is_ok_and(|said| said.status().is_success()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // An API server compiles a definition's rules with its first object, which takes seconds: not measured.
    create(client, "first", 0..1, 0, options.pods, true).await;
    for _ in 0..600 {
        if series(&metrics().await, "simsiam_operator_runs{phase=\"Suspended\"}") == Some(1.0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let before = Sample::of(&metrics().await);
    let begun = Instant::now();
    let kubelets = tokio::spawn(play(client.clone(), options.runs, options.pods));
    create(client, "run", 0..options.runs, options.rate, options.pods, false).await;
    kubelets.await.expect("the kubelets' part");
    eprintln!("{:.0} s: {} runs with {} pods each", begun.elapsed().as_secs_f64(), options.runs, options.pods);
    // Wait until the operator shows all of them as training.
    let limit = Instant::now() + Duration::from_secs(120 + options.runs as u64 / 20);
    loop {
        let text = metrics().await;
        let training = series(&text, "simsiam_operator_runs{phase=\"Training\"}").unwrap_or(0.0);
        if training as usize == options.runs {
            break;
        }
        assert!(Instant::now() < limit, "only {training} of {} runs train", options.runs);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let created = begun.elapsed();
    eprintln!("{:.0} s: all of them train", created.as_secs_f64());
    let creation = Sample::of(&metrics().await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let quiet = Sample::of(&metrics().await);
    let lists = lists(client).await;
    tokio::time::sleep(Duration::from_secs(options.steady)).await;
    let end = Sample::of(&metrics().await);
    let steady_lists = self::lists(client).await - lists;
    let memory = memory(operator.id());
    let (whole, steady) = (creation.since(&before), end.since(&quiet));
    let all = end.since(&before);
    json!({
        "runs": options.runs,
        "podsPerRun": options.pods,
        "p50Ms": all.quantile(0.5),
        "p99Ms": all.quantile(0.99),
        "creation": {"seconds": created.as_secs_f64(), "reconciles": whole.reconciles, "p50Ms": whole.quantile(0.5),
            "p99Ms": whole.quantile(0.99), "callsPerReconcile": whole.calls_per_reconcile()},
        "steady": {"seconds": options.steady, "reconciles": steady.reconciles, "p50Ms": steady.quantile(0.5),
            "p99Ms": steady.quantile(0.99), "callsPerReconcile": steady.calls_per_reconcile()},
        "callsPerReconcile": all.calls_per_reconcile(),
        "rssMb": memory.0,
        "peakRssMb": memory.1,
        "steadyLists": steady_lists,
        "errors": all.errors,
    })
}

async fn create(client: &Client, name: &str, runs: Range<usize>, rate: u64, pods: usize, suspend: bool) {
    let api: Api<SimSiamRun> = Api::namespaced(client.clone(), NAMESPACE);
    let begun = tokio::time::Instant::now();
    futures_util::stream::iter(runs)
        .for_each_concurrent(CREATING, |i| {
            let api = api.clone();
            async move {
                if let Some(after) = (1000 * i as u64).checked_div(rate) {
                    tokio::time::sleep_until(begun + Duration::from_millis(after)).await;
                }
                let run = json!({
                    "apiVersion": "simsiam.dev/v1alpha1", "kind": "SimSiamRun",
                    "metadata": {"name": format!("{name}-{i}"), "namespace": NAMESPACE},
                    "spec": {
                        "dataset": {"train": "s3://datasets/imagenet/train", "val": "s3://datasets/imagenet/val"},
                        "output": {"uri": format!("s3://models/run-{i}"), "credentialsSecret": "s3-keys"},
                        "pretrain": {"preset": "imagenet-100ep"}, "knn": {"everyEpochs": 5}, "linear": {},
                        "export": ["safetensors"],
                        "suspend": suspend,
                        "workers": {"nodes": pods, "gpusPerNode": 8},
                    },
                });
                let run: kube::core::DynamicObject = serde_json::from_value(run).unwrap();
                let resource = kube::core::ApiResource::erase::<SimSiamRun>(&());
                let dynamic: Api<kube::core::DynamicObject> =
                    Api::namespaced_with(api.into_client(), NAMESPACE, &resource);
                dynamic.create(&PostParams::default(), &run).await.expect("a run");
            }
        })
        .await;
}

/// Acts as the Job controller and the kubelets until every run's pods run.
async fn play(client: Client, runs: usize, pods: usize) {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let (send, receive) = mpsc::unbounded_channel();
    let watch = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(jobs, watcher::Config::default()).default_backoff().applied_objects());
        let mut seen = std::collections::HashSet::new();
        while let Ok(Some(job)) = events.try_next().await {
            if seen.insert(job.name_any()) && send.send(job).is_err() {
                return;
            }
        }
    });
    futures_util::stream::unfold(receive, |mut jobs| async move { jobs.recv().await.map(|job| (job, jobs)) })
        .take(runs)
        .for_each_concurrent(PLAYING, |job| {
            let client = client.clone();
            async move {
                let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
                let started = json!({"status": {"startTime": now(), "active": pods}});
                jobs.patch_status(&job.name_any(), &PatchParams::default(), &Patch::Merge(&started))
                    .await
                    .expect("a Job");
                futures_util::stream::iter(0..pods)
                    .for_each_concurrent(8, |index| run_pod(client.clone(), &job, index))
                    .await;
            }
        })
        .await;
    watch.abort();
}

/// The current time in the format of Kubernetes.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn run_pod(client: Client, job: &Job, index: usize) {
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let template = serde_json::to_value(&job.spec.as_ref().unwrap().template).unwrap();
    let mut labels: BTreeMap<String, String> = serde_json::from_value(template["metadata"]["labels"].clone()).unwrap();
    labels.insert("batch.kubernetes.io/job-name".into(), job.name_any());
    labels.insert("batch.kubernetes.io/job-completion-index".into(), index.to_string());
    let mut spec = template["spec"].clone();
    spec["nodeName"] = json!(format!("node-{index}"));
    let name = format!("{}-{index}-bench", job.name_any());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job",
            "name": job.name_any(), "uid": job.uid(), "controller": true}]},
        "spec": spec,
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.expect("a pod");
    let running = json!({"status": {
        "phase": "Running", "podIP": format!("10.0.{}.{}", index, 1),
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "trainer", "ready": true, "restartCount": 0, "image": "x", "imageID": "x",
            "state": {"running": {"startedAt": now()}}}],
    }});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&running)).await.expect("its status");
}

/// LISTs of the watched kinds, as the API server counts them.
async fn lists(client: &Client) -> f64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.expect("the API server's metrics");
    let watched = ["simsiamruns", "jobs", "pods", "services", "configmaps", "networkpolicies"];
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{") && line.contains("verb=\"LIST\""))
        .filter(|line| watched.iter().any(|resource| line.contains(&format!("resource=\"{resource}\""))))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Current and peak resident memory in MB.
fn memory(pid: u32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the operator runs");
    let megabytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
    };
    (megabytes("VmRSS:"), megabytes("VmHWM:"))
}

fn series(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The operator's counters, absolute or between two times.
#[derive(Debug, Default)]
struct Sample {
    /// Reconciliations by upper bound of their seconds (as bits).
    buckets: BTreeMap<u64, f64>,
    reconciles: f64,
    requests: f64,
    errors: f64,
}

impl Sample {
    fn of(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
            if line.starts_with("simsiam_operator_reconcile_seconds_bucket") {
                let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
                let bound = bound.parse::<f64>().unwrap_or(f64::INFINITY);
                *sample.buckets.entry(bound.to_bits()).or_default() += value;
            } else if line.starts_with("simsiam_operator_reconcile_seconds_count") {
                sample.reconciles += value;
            } else if line.starts_with("simsiam_operator_api_requests_total") {
                sample.requests += value;
            } else if line.starts_with("simsiam_operator_reconcile_errors_total") {
                sample.errors += value;
            }
        }
        sample
    }

    fn since(&self, before: &Self) -> Self {
        let earlier = |bound: &u64| before.buckets.get(bound).copied().unwrap_or(0.0);
        Self {
            buckets: self.buckets.iter().map(|(bound, count)| (*bound, count - earlier(bound))).collect(),
            reconciles: self.reconciles - before.reconciles,
            requests: self.requests - before.requests,
            errors: self.errors - before.errors,
        }
    }

    /// A quantile in milliseconds, interpolated within a bucket as Prometheus does.
    fn quantile(&self, q: f64) -> Option<f64> {
        let target = q * self.reconciles;
        let (mut below, mut from) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            let bound = f64::from_bits(*bound);
            if *count >= target && *count > below {
                let to = if bound.is_finite() { bound } else { from };
                return Some(((from + (to - from) * (target - below) / (count - below)) * 1e5).round() / 100.0);
            }
            (below, from) = (*count, bound);
        }
        None
    }

    fn calls_per_reconcile(&self) -> Option<f64> {
        (self.reconciles > 0.0).then(|| (self.requests / self.reconciles * 100.0).round() / 100.0)
    }
}
