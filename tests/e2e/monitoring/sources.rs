//! A tiny server for Prometheus: the operator's metrics, produced by the operator's own code for made-up runs;
//! and an exposition that is made up whole, for what takes a GPU, DCGM or Kueue.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use simsiam_operator::api::{RestartPolicy, RunKey, RunPhase};
use simsiam_operator::metrics::{Metrics, RunGauges};

use super::prometheus::now;

/// The real run, as Prometheus labels it.
pub const NAMESPACE: &str = "research";
/// See [`NAMESPACE`].
pub const RUN: &str = "drawn-images";
/// See [`NAMESPACE`].
pub const POD: &str = "drawn-images-pretrain-1-0-x7k2p";

/// The server; it ends with the test.
pub struct Sources {
    /// Its address: `/metrics` is the operator's, `/made-up` the rest.
    pub address: String,
    over: Arc<AtomicBool>,
}

impl Sources {
    /// Starts it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let over = Arc::new(AtomicBool::new(false));
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (acting, ended, begun) = (metrics.clone(), over.clone(), Instant::now());
        std::thread::spawn(move || {
            let _watches = ["SimSiamRun", "Job", "Pod"].map(|kind| acting.begin_watch(kind));
            let mut tick = 0;
            while !ended.load(Ordering::Relaxed) {
                act(&acting, tick);
                tick += 1;
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                let body = if request[..length].starts_with(b"GET /metrics") {
                    metrics.text()
                } else {
                    made_up(begun.elapsed().as_secs_f64())
                };
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
                let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        Self { address, over }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A made-up run: its name, its GPUs, when it is created, starts and trains, and how and when it ends.
struct Script(&'static str, &'static str, u32, [u32; 3], Option<(u32, RunPhase, &'static str)>);

const SCRIPTS: [Script; 6] = [
    Script(NAMESPACE, RUN, 8, [0, 4, 8], None),
    Script(NAMESPACE, "flat-lr", 8, [2, 10, 16], Some((40, RunPhase::Failed, "Diverged"))),
    Script(NAMESPACE, "photos-r50", 32, [0, 6, 12], None),
    Script("vision", "satellite", 16, [10, 34, 44], None),
    Script("vision", "typo", 8, [20, 26, 60], Some((30, RunPhase::Failed, "BadConfiguration"))),
    Script("vision", "waits-for-quota", 64, [8, 100_000, 100_001], None),
];

/// Half a second in the life of a cluster.
fn act(metrics: &Metrics, tick: u32) {
    metrics.set_leader(true);
    for Script(namespace, run, gpus, [created, starts, trains], end) in &SCRIPTS {
        if tick < *created {
            continue;
        }
        let key = RunKey { namespace: (*namespace).into(), name: (*run).into() };
        let over = end.filter(|(at, _, _)| tick >= *at);
        let phase = match over {
            Some((_, phase, _)) => phase,
            None if tick < *starts && *gpus == 64 => RunPhase::Queued,
            None if tick < *starts => RunPhase::Pending,
            None if tick < *trains => RunPhase::Starting,
            None if tick % 20 == 19 => RunPhase::Checkpointing,
            None => RunPhase::Training,
        };
        if let Some((at, _, reason)) = over
            && tick == at
        {
            metrics.count_failure(reason);
        }
        let step = tick.saturating_sub(*trains);
        let restarts = u32::from(tick > 50) + u32::from(tick > 80);
        let time = |seconds: f64| {
            let second = (now() + seconds) as i64;
            json!(jiff::Timestamp::from_second(second).expect("a time").to_string())
        };
        let status = json!({
            "phase": phase, "reason": over.map(|(_, _, reason)| reason),
            "attempt": {"number": 1, "job": format!("{run}-pretrain-1"), "state": "Active",
                "created": time(-f64::from(tick - created) / 2.0)},
            "workers": if phase.is_final() { json!(null) } else { json!({"nodes": 1, "ready": 1, "gpus": gpus}) },
            "progress": if step > 0 { json!({"step": step, "steps": 150, "eta": time(f64::from(150 - step.min(150)) / 2.0)}) }
                else { json!(null) },
            "restarts": {"counted": restarts, "preempted": 1, "countedSinceCheckpoint": restarts},
        });
        let status = serde_json::from_value(status).expect("a status");
        metrics.set_run(&key, RunGauges::of(&status, Some(&RestartPolicy::default())));
        // A cheap look most of the time, and now and then a write.
        let seconds = 0.0004 * f64::from(1 + (tick * 7 + gpus) % 13);
        metrics.observe_reconcile(if tick.is_multiple_of(5) { "wrote" } else { "done" }, seconds);
        metrics.count_request(if tick.is_multiple_of(5) { "patch" } else { "get" });
    }
    if tick % 9 == 4 {
        metrics.observe_reconcile("error", 0.05);
        metrics.count_error("Conflict");
    }
    match tick {
        30 => metrics.count_restart("Preempted"),
        51 | 81 => metrics.count_restart("Crashed"),
        66 => metrics.count_restart("NodeLost"),
        _ => {}
    }
}

/// Returns what GPUs, DCGM and Kueue would report `seconds` after the start.
fn made_up(seconds: f64) -> String {
    let wave = |shift: f64| (seconds / 5.0 + shift).sin();
    let labels = format!(r#"namespace="{NAMESPACE}",run="{RUN}",pod="{POD}""#);
    let mut text = String::from("# TYPE simsiam_gpu_memory_bytes gauge\n");
    for rank in 0..2 {
        let bytes = 41.0e9 + 1.0e9 * f64::from(rank) + 2.0e8 * wave(f64::from(rank));
        text += &format!("simsiam_gpu_memory_bytes{{{labels},rank=\"{rank}\"}} {bytes:.0}\n");
    }
    text += "# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n";
    // An exporter whose labels Prometheus has renamed, and one whose labels were honoured.
    for (gpu, prefix) in [(0, "exported_"), (1, "")] {
        let labels = format!(r#"gpu="{gpu}",{prefix}namespace="{NAMESPACE}",{prefix}pod="{POD}""#);
        text += &format!("DCGM_FI_DEV_GPU_UTIL{{{labels}}} {:.1}\n", 93.0 + 4.0 * wave(f64::from(gpu)));
    }
    let waiting = 2.0 + (seconds / 20.0).floor() % 3.0;
    text += "# TYPE kueue_pending_workloads gauge\n";
    text += &format!("kueue_pending_workloads{{cluster_queue=\"gpus\",status=\"active\"}} {waiting}\n");
    text += "kueue_pending_workloads{cluster_queue=\"gpus\",status=\"inadmissible\"} 1\n";
    text += "# TYPE kueue_admission_wait_time_seconds histogram\n";
    let admitted = (seconds / 4.0).floor();
    for (bound, share) in [("1", 0.1), ("10", 0.4), ("60", 0.7), ("600", 0.95), ("+Inf", 1.0)] {
        let count = (admitted * share).floor();
        text += &format!("kueue_admission_wait_time_seconds_bucket{{cluster_queue=\"gpus\",le=\"{bound}\"}} {count}\n");
    }
    text += &format!("kueue_admission_wait_time_seconds_sum{{cluster_queue=\"gpus\"}} {}\n", admitted * 50.0);
    text += &format!("kueue_admission_wait_time_seconds_count{{cluster_queue=\"gpus\"}} {admitted}\n");
    text
}
