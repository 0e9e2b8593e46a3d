//! The operator's own metrics. Counters carry no run names, so that their number stays bounded; gauges that do are of
//! the runs that are there, and go when those go.

mod standing;

use std::collections::HashMap;
use std::sync::Mutex;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::standing::Standing;
use crate::api::Phase;
use crate::observe::Key;
use crate::plan::verdict::BAD_STARTS;

/// All of them.
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
    standings: Mutex<HashMap<Key, Standing>>,
}

/// Reasons of restarts as metrics name them; all others are counted as `Other`.
const RESTARTS: [&str; 15] = [
    "Crashed",
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
    "Preempted",
    "Temporary",
    "TerminationByKubelet",
    "Unschedulable",
];

/// Reasons for which a run fails at once. A run whose restarts are spent fails for the last one's reason.
const FAILURES: [&str; 7] =
    ["BadConfiguration", "BadData", "BadUsage", "Collapsed", "DeadlineExceeded", "Diverged", "InvalidSpec"];

/// All reasons of failures as metrics name them, but for `Other`.
fn failures() -> impl Iterator<Item = &'static str> {
    FAILURES.into_iter().chain(BAD_STARTS).chain(RESTARTS)
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If two have one name: a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("simsiam_operator_reconcile_seconds", "Duration of one reconciliation").buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            &["outcome"],
        )?;
        let counter = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let reconcile_errors =
            counter("simsiam_operator_reconcile_errors_total", "Reconciliations that failed", "reason")?;
        let restarts = counter("simsiam_operator_restarts_total", "Restarts of attempts", "reason")?;
        let failures_total = counter("simsiam_operator_failures_total", "Runs that failed for good", "reason")?;
        let requests =
            counter("simsiam_operator_api_requests_total", "Requests to the API server, without watches", "verb")?;
        let runs = IntGaugeVec::new(Opts::new("simsiam_operator_runs", "Runs in a phase"), &["phase"])?;
        let gpus = IntGaugeVec::new(
            Opts::new("simsiam_operator_gpus", "GPUs of attempts whose pods all run, or wait to run"),
            &["state"],
        )?;
        let queue_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "simsiam_operator_queue_seconds",
                "From the decision on an attempt until all of its pods ran: quota, scheduling and images",
            )
            .buckets(vec![1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0]),
        )?;
        let leader = IntGauge::new("simsiam_operator_leader", "1 if this replica reconciles, else 0")?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(reconcile_errors.clone()))?;
        registry.register(Box::new(restarts.clone()))?;
        registry.register(Box::new(failures_total.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(gpus.clone()))?;
        registry.register(Box::new(queue_seconds.clone()))?;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        // A series that begins at 1 has no rate.
        for reason in RESTARTS.iter().chain(&["Other"]) {
            restarts.with_label_values(&[reason]);
        }
        for reason in failures().chain(["Other"]) {
            failures_total.with_label_values(&[reason]);
        }
        for phase in Phase::ALL {
            runs.with_label_values(&[phase.name()]);
        }
        Ok(Self {
            registry,
            reconcile_seconds,
            reconcile_errors,
            runs,
            restarts,
            failures: failures_total,
            requests,
            gpus,
            queue_seconds,
            leader,
            standings: Mutex::default(),
        })
    }

    /// A reconciliation took so long, and ended in `done`, `wrote` or `error`.
    pub fn reconciled(&self, outcome: &str, seconds: f64) {
        self.reconcile_seconds.with_label_values(&[outcome]).observe(seconds);
    }

    /// A reconciliation failed.
    pub fn failed(&self, reason: &str) {
        self.reconcile_errors.with_label_values(&[reason]).inc();
    }

    /// An attempt is followed by another.
    pub fn restarted(&self, reason: &str) {
        let reason = RESTARTS.iter().find(|known| **known == reason).unwrap_or(&"Other");
        self.restarts.with_label_values(&[reason]).inc();
    }

    /// A run has failed for good.
    pub fn run_failed(&self, reason: &str) {
        let reason = failures().find(|known| *known == reason).unwrap_or("Other");
        self.failures.with_label_values(&[reason]).inc();
    }

    /// A request was sent.
    pub fn requested(&self, verb: &str) {
        self.requests.with_label_values(&[verb]).inc();
    }

    /// Does this replica reconcile?
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A run stands so, or is gone.
    pub fn stands(&self, key: &Key, standing: Option<Standing>) {
        let Ok(mut standings) = self.standings.lock() else { return };
        let Some(standing) = standing else {
            standings.remove(key);
            return;
        };
        if let Some(seconds) = standings.get(key).and_then(|before| standing.waited(before)) {
            self.queue_seconds.observe(seconds);
        }
        standings.insert(key.clone(), standing);
    }

    /// The exposition.
    pub fn text(&self) -> String {
        let mut counts = HashMap::new();
        let (mut running, mut waiting) = (0, 0);
        let mut of_runs = String::new();
        if let Ok(standings) = self.standings.lock() {
            for standing in standings.values() {
                *counts.entry(standing.phase).or_insert(0) += 1;
                let gpus = if standing.waits() { &mut waiting } else { &mut running };
                *gpus += i64::from(standing.gpus);
            }
            of_runs = standing::text(&standings);
        }
        for phase in Phase::ALL {
            let count = counts.get(&phase).copied().unwrap_or(0);
            self.runs.with_label_values(&[phase.name()]).set(count);
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
    fn runs_are_counted_by_phase_and_unknown_reasons_share_a_series() {
        let metrics = Metrics::new().unwrap();
        let key = |run: &str| Key { namespace: "n".into(), run: run.into() };
        let standing = |phase| Standing::of(&Status { phase: Some(phase), ..Status::default() }, None);
        metrics.stands(&key("a"), standing(Phase::Training));
        metrics.stands(&key("b"), standing(Phase::Training));
        metrics.stands(&key("b"), standing(Phase::Failed));
        metrics.restarted("whatever an admission webhook says");
        metrics.run_failed("ImagePullBackOff");
        metrics.run_failed("whatever an admission webhook says");
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
        metrics.stands(&key("a"), None);
        let text = metrics.text();
        assert!(text.contains("simsiam_operator_runs{phase=\"Training\"} 0"));
        assert!(!text.contains("run=\"a\""), "{text}");
    }
}
