//! The operator's own metrics. Counters carry no run names, so that their number stays bounded.

use std::collections::HashMap;
use std::sync::Mutex;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::api::Phase;
use crate::observe::Key;

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconcile_seconds: HistogramVec,
    reconcile_errors: IntCounterVec,
    runs: IntGaugeVec,
    restarts: IntCounterVec,
    requests: IntCounterVec,
    leader: IntGauge,
    phases: Mutex<HashMap<Key, Phase>>,
}

/// Reasons of restarts as metrics name them; all others are counted as `Other`.
const RESTARTS: [&str; 16] = [
    "BadStart",
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

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If two have one name: a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("simsiam_operator_reconcile_seconds", "Duration of one reconciliation")
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["outcome"],
        )?;
        let counter = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let reconcile_errors =
            counter("simsiam_operator_reconcile_errors_total", "Reconciliations that failed", "reason")?;
        let restarts = counter("simsiam_operator_restarts_total", "Restarts of attempts", "reason")?;
        let requests =
            counter("simsiam_operator_api_requests_total", "Requests to the API server, without watches", "verb")?;
        let runs = IntGaugeVec::new(Opts::new("simsiam_operator_runs", "Runs in a phase"), &["phase"])?;
        let leader = IntGauge::new("simsiam_operator_leader", "1 if this replica reconciles, else 0")?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(reconcile_errors.clone()))?;
        registry.register(Box::new(restarts.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        // A series that begins at 1 has no rate.
        for reason in RESTARTS.iter().chain(&["Other"]) {
            restarts.with_label_values(&[reason]);
        }
        for phase in Phase::ALL {
            runs.with_label_values(&[format!("{phase:?}").as_str()]);
        }
        let phases = Mutex::default();
        Ok(Self { registry, reconcile_seconds, reconcile_errors, runs, restarts, requests, leader, phases })
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

    /// A request was sent.
    pub fn requested(&self, verb: &str) {
        self.requests.with_label_values(&[verb]).inc();
    }

    /// Does this replica reconcile?
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A run stands in this phase, or is gone.
    pub fn stands(&self, key: &Key, phase: Option<Phase>) {
        let Ok(mut phases) = self.phases.lock() else { return };
        match phase {
            Some(phase) => phases.insert(key.clone(), phase),
            None => phases.remove(key),
        };
    }

    /// The exposition.
    pub fn text(&self) -> String {
        let mut counts = HashMap::new();
        if let Ok(phases) = self.phases.lock() {
            for phase in phases.values() {
                *counts.entry(*phase).or_insert(0) += 1;
            }
        }
        for phase in Phase::ALL {
            let count = counts.get(&phase).copied().unwrap_or(0);
            self.runs.with_label_values(&[format!("{phase:?}").as_str()]).set(count);
        }
        let mut text = Vec::new();
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("metrics: {e}");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_phase_and_unknown_reasons_share_a_series() {
        let metrics = Metrics::new().unwrap();
        let key = |run: &str| Key { namespace: "n".into(), run: run.into() };
        metrics.stands(&key("a"), Some(Phase::Training));
        metrics.stands(&key("b"), Some(Phase::Training));
        metrics.stands(&key("b"), Some(Phase::Failed));
        metrics.restarted("whatever an admission webhook says");
        let text = metrics.text();
        assert!(text.contains("simsiam_operator_runs{phase=\"Training\"} 1"), "{text}");
        assert!(text.contains("simsiam_operator_restarts_total{reason=\"Other\"} 1"), "{text}");
        metrics.stands(&key("a"), None);
        assert!(metrics.text().contains("simsiam_operator_runs{phase=\"Training\"} 0"));
    }
}
