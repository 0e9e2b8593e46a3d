//! The gauges of one run.

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;

use crate::api::{RestartPolicy, Restarts, RunKey, RunPhase, Status};

/// The part of a run's status that its gauges show.
#[derive(Debug, Clone)]
pub struct RunGauges {
    /// Its phase.
    pub phase: RunPhase,
    /// GPUs that its attempt holds or requests.
    pub gpus: u32,
    reason: String,
    restarts: Restarts,
    /// The limits of its restarts.
    limits: Option<Limits>,
    /// The attempt's Job and when the attempt started.
    attempt: Option<(String, Timestamp)>,
    progress: Option<f64>,
    eta: Option<Timestamp>,
    seen: Timestamp,
}

impl RunGauges {
    /// Reads a run's status, and its restart limits if its spec is valid.
    pub fn of(status: &Status, policy: Option<&RestartPolicy>) -> Option<Self> {
        let progress = status.progress.as_ref();
        Some(Self {
            phase: status.phase?,
            gpus: status.workers.as_ref().map_or(0, |workers| workers.gpus),
            reason: status.reason.clone().unwrap_or_default(),
            restarts: status.restarts.clone(),
            limits: policy.map(|policy| Limits {
                restarts: policy.max_restarts,
                preemptions: policy.max_preemptions,
                unscheduled: policy.max_unscheduled.unwrap_or(0),
            }),
            attempt: status.attempt.as_ref().map(|attempt| (attempt.job.clone(), attempt.created)),
            progress: progress.filter(|p| p.steps > 0).map(|p| p.step as f64 / p.steps as f64),
            eta: progress.and_then(|p| p.eta),
            seen: Timestamp::now(),
        })
    }

    /// Whether the run waits for its pods to run.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, RunPhase::Pending | RunPhase::Queued)
    }

    /// Seconds that its attempt has waited, if it waited in `before` and no longer does.
    pub fn waited_since(&self, before: &Self) -> Option<f64> {
        let runs = !self.is_waiting() && !self.phase.is_final() && self.phase != RunPhase::Suspended;
        let (job, created) = self.attempt.as_ref()?;
        let same = before.attempt.as_ref().is_some_and(|(of, _)| of == job);
        (before.is_waiting() && runs && same).then(|| self.seen.duration_since(*created).as_secs_f64().max(0.0))
    }
}

/// Limits of `spec.restartPolicy`; 0 for none.
#[derive(Debug, Clone, Copy)]
struct Limits {
    restarts: u32,
    preemptions: u32,
    unscheduled: u32,
}

/// A gauge with the labels `namespace` and `run`.
struct Gauge {
    name: &'static str,
    help: &'static str,
    /// A third label.
    label: Option<&'static str>,
    /// Values, each with the value of the third label.
    values: fn(&RunGauges) -> Vec<(&str, f64)>,
}

const GAUGES: [Gauge; 6] = [
    Gauge {
        name: "simsiam_operator_run_phase",
        help: "1 for the phase that a run is in; absent once the run has ended",
        label: Some("phase"),
        values: |run| unless_ended(run, vec![(run.phase.name(), 1.0)]),
    },
    Gauge {
        name: "simsiam_operator_run_failed",
        help: "1 for a run that has failed permanently",
        label: Some("reason"),
        values: |run| match run.phase {
            RunPhase::Failed => vec![(&run.reason, 1.0)],
            _ => Vec::new(),
        },
    },
    Gauge {
        name: "simsiam_operator_run_restarts",
        help: "Restarts of a run that has not ended: after crashes (counted), after pre-emptions, or because not all pods were scheduled",
        label: Some("kind"),
        values: |run| {
            let restarts = &run.restarts;
            let kinds = [
                ("counted", restarts.counted),
                ("preempted", restarts.preempted),
                ("unscheduled", restarts.unscheduled),
            ];
            unless_ended(run, kinds.map(|(kind, count)| (kind, f64::from(count))).into())
        },
    },
    Gauge {
        name: "simsiam_operator_run_restart_budget_used",
        help: "Restarts since the newest checkpoint divided by the limit in spec.restartPolicy, 0 to 1; absent if the limit is 0",
        label: Some("limit"),
        values: |run| {
            let Some(limits) = run.limits else { return Vec::new() };
            let used = &run.restarts;
            let limits = [
                ("maxRestarts", used.counted_since_checkpoint, limits.restarts),
                ("maxPreemptions", used.uncounted_since_checkpoint, limits.preemptions),
                ("maxUnscheduled", used.unscheduled_since_checkpoint, limits.unscheduled),
            ];
            let allowed = limits.into_iter().filter(|(_, _, most)| *most > 0);
            unless_ended(run, allowed.map(|(limit, count, most)| (limit, f64::from(count) / f64::from(most))).collect())
        },
    },
    Gauge {
        name: "simsiam_operator_run_progress",
        help: "Finished steps of the current stage divided by all its steps, 0 to 1",
        label: None,
        values: |run| unless_ended(run, run.progress.map(|share| ("", share)).into_iter().collect()),
    },
    Gauge {
        name: "simsiam_operator_run_eta_timestamp_seconds",
        help: "Estimated end of the current stage, as Unix time",
        label: None,
        values: |run| {
            let eta = run.eta.map(|at| ("", at.as_second() as f64));
            unless_ended(run, eta.into_iter().collect())
        },
    },
];

/// The values, unless the run has ended.
fn unless_ended<'a>(run: &RunGauges, values: Vec<(&'a str, f64)>) -> Vec<(&'a str, f64)> {
    if run.phase.is_final() { Vec::new() } else { values }
}

/// The gauges in Prometheus' text format. Written without a registry, which would hold every series a second time.
pub fn text(gauges: &HashMap<RunKey, RunGauges>) -> String {
    let mut runs: Vec<_> = gauges.iter().collect();
    runs.sort_unstable_by_key(|(key, _)| *key);
    let mut text = String::new();
    for gauge in &GAUGES {
        let mut has_header = false;
        for (RunKey { namespace, name }, run) in &runs {
            for (value_of_label, value) in (gauge.values)(run) {
                if !has_header {
                    let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", gauge.name, gauge.help);
                    has_header = true;
                }
                let _ = write!(text, "{}{{namespace=\"{namespace}\",run=\"{name}\"", gauge.name);
                if let Some(label) = gauge.label {
                    let _ = write!(text, ",{label}=\"{}\"", escaped(value_of_label));
                }
                let _ = writeln!(text, "}} {value}");
            }
        }
    }
    text
}

/// A reason may contain any character. Names of Kubernetes objects need no escaping.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Attempt, AttemptState, ProgressStatus, WorkersStatus};

    fn status(phase: RunPhase) -> Status {
        let created = Timestamp::now() - jiff::SignedDuration::from_secs(90);
        Status {
            phase: Some(phase),
            attempt: Some(Attempt {
                number: 1,
                job: "r-pretrain-1".into(),
                state: AttemptState::Active,
                generation: 1,
                avoid_nodes: Vec::new(),
                created,
                ended: None,
            }),
            workers: Some(WorkersStatus { nodes: 2, ready: 2, gpus: 16 }),
            ..Status::default()
        }
    }

    fn gauges(phase: RunPhase) -> RunGauges {
        RunGauges::of(&status(phase), None).unwrap()
    }

    #[test]
    fn wait_of_an_attempt_ends_when_its_pods_run() {
        let seconds = gauges(RunPhase::Starting).waited_since(&gauges(RunPhase::Queued)).unwrap();
        assert!((90.0..120.0).contains(&seconds), "{seconds}");
        assert_eq!(gauges(RunPhase::Training).waited_since(&gauges(RunPhase::Starting)), None, "it ran before");
        assert_eq!(gauges(RunPhase::Queued).waited_since(&gauges(RunPhase::Pending)), None, "it is still waiting");
        assert_eq!(gauges(RunPhase::Failed).waited_since(&gauges(RunPhase::Pending)), None, "it never ran");
        let mut other = gauges(RunPhase::Pending);
        other.attempt = Some(("r-pretrain-0".into(), Timestamp::now()));
        assert_eq!(gauges(RunPhase::Starting).waited_since(&other), None, "another attempt waited");
    }

    #[test]
    fn gauges_of_an_ended_run_are_only_its_failure() {
        let key = RunKey { namespace: "n".into(), name: "r".into() };
        let policy = RestartPolicy { max_restarts: 4, max_preemptions: 0, ..RestartPolicy::default() };
        let mut status = status(RunPhase::Training);
        status.restarts = Restarts { counted: 5, counted_since_checkpoint: 3, ..Restarts::default() };
        let eta = Timestamp::from_second(1_800_000_000).unwrap();
        status.progress = Some(ProgressStatus { step: 5, steps: 20, eta: Some(eta), ..ProgressStatus::default() });
        let lines = |status: &Status| {
            let gauges = RunGauges::of(status, Some(&policy)).unwrap();
            text(&HashMap::from([(key.clone(), gauges)])).replace("simsiam_operator_run_", "")
        };
        let shown = lines(&status);
        for line in [
            "# TYPE phase gauge",
            r#"phase{namespace="n",run="r",phase="Training"} 1"#,
            r#"restarts{namespace="n",run="r",kind="counted"} 5"#,
            r#"restart_budget_used{namespace="n",run="r",limit="maxRestarts"} 0.75"#,
            r#"progress{namespace="n",run="r"} 0.25"#,
            r#"eta_timestamp_seconds{namespace="n",run="r"} 1800000000"#,
        ] {
            assert!(shown.lines().any(|l| l == line), "{line} is not in\n{shown}");
        }
        assert!(!shown.contains("maxPreemptions") && !shown.contains("failed"), "{shown}");
        status.phase = Some(RunPhase::Failed);
        status.reason = Some("a \"word\"".into());
        let shown = lines(&status);
        let samples: Vec<_> = shown.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, [r#"failed{namespace="n",run="r",reason="a \"word\""} 1"#]);
    }
}
