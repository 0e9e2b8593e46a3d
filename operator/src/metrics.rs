//! The operator's own metrics. Counters have no run label, so that the number of series is bounded; gauges of a run exist
//! as long as the run does.

mod run_gauges;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use simsiam_contract::FailureReason;

pub use self::run_gauges::RunGauges;
use crate::api::{RunKey, RunPhase};
use crate::plan::BAD_STARTS;
use crate::sync::lock;
use crate::watches::{Watch, Watches};

/// The registry and its metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconcile_seconds: HistogramVec,
    reconcile_errors: IntCounterVec,
    runs: IntGaugeVec,
    restarts: IntCounterVec,
    failures: IntCounterVec,
    requests: IntCounterVec,
    gpus: IntGaugeVec,
    queue_seconds: Histogram,
    leader: IntGauge,
    watch_up: IntGaugeVec,
    watch_errors: IntCounterVec,
    /// The watches, whose state is one of the metrics.
    pub watches: Watches,
    gauges: Mutex<HashMap<RunKey, RunGauges>>,
}

/// Reasons of restarts that come from Kubernetes or the operator rather than from the trainer.
const CLUSTER_RESTARTS: [&str; 12] = [
    "DeletionByTaintManager",
    "Disrupted",
    "EvictionByEvictionAPI",
    "Evicted",
    "JobDeleted",
    "NodeLost",
    "OOMKilled",
    "PodDeleted",
    "PodsNotCreated",
    "PreemptionByScheduler",
    "TerminationByKubelet",
    "Unschedulable",
];

/// Reasons of failures without a restart that the operator gives.
const CLUSTER_FAILURES: [&str; 2] = ["DeadlineExceeded", "InvalidSpec"];

/// The trainer's reasons, all of which may end or restart an attempt.
fn reported() -> impl Iterator<Item = &'static str> {
    FailureReason::KNOWN.iter().filter(|reason| **reason != FailureReason::Done).map(FailureReason::name)
}

/// Values of the label `reason` of restarts; all other reasons are counted as `Other`.
fn restarts() -> impl Iterator<Item = &'static str> {
    reported().chain(CLUSTER_RESTARTS)
}

/// Values of the label `reason` of failures, without `Other`. A run that exceeds a restart limit fails with the reason of
/// the last restart.
fn failures() -> impl Iterator<Item = &'static str> {
    restarts().chain(CLUSTER_FAILURES).chain(BAD_STARTS)
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If two metrics have the same name, which is a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("simsiam_operator_reconcile_seconds", "Duration of one reconciliation").buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            &["outcome"],
        )?;
        let counter = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let reconcile_errors = counter("simsiam_operator_reconcile_errors_total", "Failed reconciliations", "reason")?;
        let restarts_total = counter("simsiam_operator_restarts_total", "Restarts of attempts", "reason")?;
        let failures_total = counter("simsiam_operator_failures_total", "Runs that failed permanently", "reason")?;
        let requests =
            counter("simsiam_operator_api_requests_total", "Requests to the API server, except watches", "verb")?;
        let runs = IntGaugeVec::new(Opts::new("simsiam_operator_runs", "Runs by phase"), &["phase"])?;
        let gpus = IntGaugeVec::new(
            Opts::new("simsiam_operator_gpus", "GPUs of attempts, by whether all their pods run"),
            &["state"],
        )?;
        let queue_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "simsiam_operator_queue_seconds",
                "Time from the start of an attempt until all its pods run: quota, scheduling, image pulls",
            )
            .buckets(vec![1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0]),
        )?;
        let leader = IntGauge::new("simsiam_operator_leader", "1 if this replica is the leader, else 0")?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(reconcile_errors.clone()))?;
        registry.register(Box::new(restarts_total.clone()))?;
        registry.register(Box::new(failures_total.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(gpus.clone()))?;
        registry.register(Box::new(queue_seconds.clone()))?;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        let watch_up = IntGaugeVec::new(
            Opts::new(
                "simsiam_operator_watch_up",
                "1 if the leader's watch of a kind of objects works, 0 if it has ended or has failed for a minute",
            ),
            &["kind"],
        )?;
        let watch_errors = counter("simsiam_operator_watch_errors_total", "Failures of watches", "kind")?;
        registry.register(Box::new(watch_up.clone()))?;
        registry.register(Box::new(watch_errors.clone()))?;
        // A series that starts at 1 has no rate.
        for reason in restarts().chain(["Other"]) {
            restarts_total.with_label_values(&[reason]);
        }
        for reason in failures().chain(["Other"]) {
            failures_total.with_label_values(&[reason]);
        }
        for phase in RunPhase::ALL {
            runs.with_label_values(&[phase.name()]);
        }
        Ok(Self {
            registry,
            reconcile_seconds,
            reconcile_errors,
            runs,
            restarts: restarts_total,
            failures: failures_total,
            requests,
            gpus,
            queue_seconds,
            leader,
            watch_up,
            watch_errors,
            watches: Watches::default(),
            gauges: Mutex::default(),
        })
    }

    /// Records a reconciliation; its outcome is `done`, `wrote` or `error`.
    pub fn observe_reconcile(&self, outcome: &str, seconds: f64) {
        self.reconcile_seconds.with_label_values(&[outcome]).observe(seconds);
    }

    /// Counts a failed reconciliation.
    pub fn count_error(&self, reason: &str) {
        self.reconcile_errors.with_label_values(&[reason]).inc();
    }

    /// Counts a restart of an attempt.
    pub fn count_restart(&self, reason: &str) {
        let reason = restarts().find(|known| *known == reason).unwrap_or("Other");
        self.restarts.with_label_values(&[reason]).inc();
    }

    /// Counts a permanently failed run.
    pub fn count_failure(&self, reason: &str) {
        let reason = failures().find(|known| *known == reason).unwrap_or("Other");
        self.failures.with_label_values(&[reason]).inc();
    }

    /// Counts a request to the API server.
    pub fn count_request(&self, verb: &str) {
        self.requests.with_label_values(&[verb]).inc();
    }

    /// Registers a watch, which is up until the returned guard is dropped.
    pub fn begin_watch(&self, kind: &str) -> Watch<'_> {
        // A series that starts at 1 has no rate.
        self.watch_errors.with_label_values(&[kind]);
        self.watches.begin(kind)
    }

    /// Counts a failure of a watch.
    pub fn count_watch_error(&self, kind: &str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    /// Sets whether this replica is the leader.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Sets the gauges of a run; `None` removes them.
    pub fn set_run(&self, key: &RunKey, run: Option<RunGauges>) {
        let mut gauges = lock(&self.gauges);
        let Some(run) = run else {
            gauges.remove(key);
            return;
        };
        if let Some(seconds) = gauges.get(key).and_then(|before| run.waited_since(before)) {
            self.queue_seconds.observe(seconds);
        }
        gauges.insert(key.clone(), run);
    }

    /// All metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut counts = HashMap::new();
        let (mut running, mut waiting) = (0, 0);
        let gauges = lock(&self.gauges);
        for run in gauges.values() {
            *counts.entry(run.phase).or_insert(0) += 1;
            let gpus = if run.is_waiting() { &mut waiting } else { &mut running };
            *gpus += i64::from(run.gpus);
        }
        let of_runs = run_gauges::text(&gauges);
        drop(gauges);
        for phase in RunPhase::ALL {
            let count = counts.get(&phase).copied().unwrap_or(0);
            self.runs.with_label_values(&[phase.name()]).set(count);
        }
        for (kind, up) in self.watches.up(Instant::now()) {
            self.watch_up.with_label_values(&[&kind]).set(up.into());
        }
        self.gpus.with_label_values(&["running"]).set(running);
        self.gpus.with_label_values(&["waiting"]).set(waiting);
        let mut text = Vec::new();
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("metrics: {e}");
        }
        String::from_utf8(text).unwrap_or_default() + &of_runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Status;

    #[test]
    fn reasons_of_the_trainer_have_series_of_their_own() {
        for reason in FailureReason::KNOWN.iter().filter(|reason| **reason != FailureReason::Done) {
            assert!(restarts().any(|known| known == reason.name()), "{reason}");
        }
        for (values, what) in [(restarts().collect::<Vec<_>>(), "restarts"), (failures().collect(), "failures")] {
            let once: std::collections::HashSet<_> = values.iter().collect();
            assert_eq!(once.len(), values.len(), "{what}: {values:?}");
        }
    }

    #[test]
    fn runs_are_counted_by_phase_and_unknown_reasons_share_a_series() {
        let metrics = Metrics::new().unwrap();
        let key = |run: &str| RunKey { namespace: "n".into(), name: run.into() };
        let gauges = |phase| RunGauges::of(&Status { phase: Some(phase), ..Status::default() }, None);
        metrics.set_run(&key("a"), gauges(RunPhase::Training));
        metrics.set_run(&key("b"), gauges(RunPhase::Training));
        metrics.set_run(&key("b"), gauges(RunPhase::Failed));
        metrics.count_restart("some reason of an admission webhook");
        metrics.count_failure("ImagePullBackOff");
        metrics.count_failure("some reason of an admission webhook");
        let text = metrics.text();
        for line in [
            "simsiam_operator_runs{phase=\"Training\"} 1",
            "simsiam_operator_restarts_total{reason=\"Other\"} 1",
            "simsiam_operator_failures_total{reason=\"ImagePullBackOff\"} 1",
            "simsiam_operator_failures_total{reason=\"Other\"} 1",
            "simsiam_operator_failures_total{reason=\"Diverged\"} 0",
            "simsiam_operator_run_phase{namespace=\"n\",run=\"a\",phase=\"Training\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        metrics.set_run(&key("a"), None);
        let text = metrics.text();
        assert!(text.contains("simsiam_operator_runs{phase=\"Training\"} 0"));
        assert!(!text.contains("run=\"a\""), "{text}");
    }
}
