//! What one run adds to the gauges.

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;

use crate::api::{Phase, RestartPolicy, Restarts, Status};
use crate::observe::Key;

/// Where a run stands, as much of it as metrics tell.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its phase.
    pub phase: Phase,
    /// GPUs that its attempt has or asks for.
    pub gpus: u32,
    reason: String,
    restarts: Restarts,
    /// `maxRestarts` and `maxPreemptions`.
    allowed: Option<(u32, u32)>,
    /// The attempt's Job and when it was decided on.
    attempt: Option<(String, Timestamp)>,
    progress: Option<f64>,
    eta: Option<Timestamp>,
    seen: Timestamp,
}

impl Standing {
    /// From a run's status and the limits of its restarts, where those are known.
    pub fn of(status: &Status, policy: Option<&RestartPolicy>) -> Option<Self> {
        let progress = status.progress.as_ref();
        Some(Self {
            phase: status.phase?,
            gpus: status.workers.as_ref().map_or(0, |workers| workers.gpus),
            reason: status.reason.clone().unwrap_or_default(),
            restarts: status.restarts.clone(),
            allowed: policy.map(|policy| (policy.max_restarts, policy.max_preemptions)),
            attempt: status.attempt.as_ref().map(|attempt| (attempt.job.clone(), attempt.created)),
            progress: progress.filter(|p| p.steps > 0).map(|p| p.step as f64 / p.steps as f64),
            eta: progress.and_then(|p| p.eta),
            seen: Timestamp::now(),
        })
    }

    /// Does it wait for its pods to run?
    pub fn waits(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Queued)
    }

    /// Seconds that its attempt waited, if it did so before and does no longer.
    pub fn waited(&self, before: &Self) -> Option<f64> {
        let runs = !self.waits() && !self.phase.is_final() && self.phase != Phase::Suspended;
        let (job, created) = self.attempt.as_ref()?;
        let same = before.attempt.as_ref().is_some_and(|(of, _)| of == job);
        (before.waits() && runs && same).then(|| self.seen.duration_since(*created).as_secs_f64().max(0.0))
    }
}

/// A gauge of runs: its name, its help, and its label beside namespace and run.
struct Gauge {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    /// Values, each with that label's value.
    values: fn(&Standing) -> Vec<(&str, f64)>,
}

const GAUGES: [Gauge; 6] = [
    Gauge {
        name: "simsiam_operator_run_phase",
        help: "1 for the phase that a run stands in; runs that have ended have none",
        label: Some("phase"),
        values: |standing| open(standing, vec![(standing.phase.name(), 1.0)]),
    },
    Gauge {
        name: "simsiam_operator_run_failed",
        help: "1 for a run that has failed for good",
        label: Some("reason"),
        values: |standing| match standing.phase {
            Phase::Failed => vec![(&standing.reason, 1.0)],
            _ => Vec::new(),
        },
    },
    Gauge {
        name: "simsiam_operator_run_restarts",
        help: "Restarts of a run that has not ended: after crashes (counted), after pre-emptions, since not all pods were scheduled",
        label: Some("kind"),
        values: |standing| {
            let restarts = &standing.restarts;
            let kinds = [
                ("counted", restarts.counted),
                ("preempted", restarts.preempted),
                ("unscheduled", restarts.unscheduled),
            ];
            open(standing, kinds.map(|(kind, count)| (kind, f64::from(count))).into())
        },
    },
    Gauge {
        name: "simsiam_operator_run_restart_budget_used",
        help: "Restarts since the newest checkpoint over what spec.restartPolicy allows, 0 to 1; none where it allows none",
        label: Some("limit"),
        values: |standing| {
            let Some((restarts, preemptions)) = standing.allowed else { return Vec::new() };
            let spent = &standing.restarts;
            let limits = [
                ("maxRestarts", spent.counted_since_checkpoint, restarts),
                ("maxPreemptions", spent.uncounted_since_checkpoint, preemptions),
            ];
            let allowed = limits.into_iter().filter(|(_, _, most)| *most > 0);
            open(standing, allowed.map(|(limit, count, most)| (limit, f64::from(count) / f64::from(most))).collect())
        },
    },
    Gauge {
        name: "simsiam_operator_run_progress",
        help: "Finished steps of the stage under way over all of them, 0 to 1",
        label: None,
        values: |standing| open(standing, standing.progress.map(|share| ("", share)).into_iter().collect()),
    },
    Gauge {
        name: "simsiam_operator_run_eta_timestamp_seconds",
        help: "When the stage under way should end, as Unix time",
        label: None,
        values: |standing| {
            let eta = standing.eta.map(|at| ("", at.as_second() as f64));
            open(standing, eta.into_iter().collect())
        },
    },
];

/// Values of a run that has not ended; none of one that has.
fn open<'a>(standing: &Standing, values: Vec<(&'a str, f64)>) -> Vec<(&'a str, f64)> {
    if standing.phase.is_final() { Vec::new() } else { values }
}

/// The exposition. Written by hand: a registry would hold every line of every run a second time.
pub fn text(standings: &HashMap<Key, Standing>) -> String {
    let mut runs: Vec<_> = standings.iter().collect();
    runs.sort_unstable_by_key(|(key, _)| *key);
    let mut text = String::new();
    for gauge in &GAUGES {
        let mut begun = false;
        for (Key { namespace, run }, standing) in &runs {
            for (value_of_label, value) in (gauge.values)(standing) {
                if !begun {
                    let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", gauge.name, gauge.help);
                    begun = true;
                }
                let _ = write!(text, "{}{{namespace=\"{namespace}\",run=\"{run}\"", gauge.name);
                if let Some(label) = gauge.label {
                    let _ = write!(text, ",{label}=\"{}\"", escaped(value_of_label));
                }
                let _ = writeln!(text, "}} {value}");
            }
        }
    }
    text
}

/// A reason may be a stranger's word. Names of Kubernetes' objects need no escaping.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Attempt, AttemptState, Progress, WorkersStatus};

    fn status(phase: Phase) -> Status {
        let created = Timestamp::now() - jiff::SignedDuration::from_secs(90);
        Status {
            phase: Some(phase),
            attempt: Some(Attempt {
                number: 1,
                job: "r-pretrain-1".into(),
                state: AttemptState::Active,
                created,
                ended: None,
            }),
            workers: Some(WorkersStatus { nodes: 2, ready: 2, gpus: 16 }),
            ..Status::default()
        }
    }

    fn standing(phase: Phase) -> Standing {
        Standing::of(&status(phase), None).unwrap()
    }

    #[test]
    fn an_attempt_has_waited_once_its_pods_run() {
        let seconds = standing(Phase::Starting).waited(&standing(Phase::Queued)).unwrap();
        assert!((90.0..120.0).contains(&seconds), "{seconds}");
        assert_eq!(standing(Phase::Training).waited(&standing(Phase::Starting)), None, "it ran before");
        assert_eq!(standing(Phase::Queued).waited(&standing(Phase::Pending)), None, "it waits still");
        assert_eq!(standing(Phase::Failed).waited(&standing(Phase::Pending)), None, "it never ran");
        let mut other = standing(Phase::Pending);
        other.attempt = Some(("r-pretrain-0".into(), Timestamp::now()));
        assert_eq!(standing(Phase::Starting).waited(&other), None, "another attempt waited");
    }

    #[test]
    fn a_run_tells_of_itself_until_it_ends() {
        let key = Key { namespace: "n".into(), run: "r".into() };
        let policy = RestartPolicy { max_restarts: 4, max_preemptions: 0, ..RestartPolicy::default() };
        let mut status = status(Phase::Training);
        status.restarts = Restarts { counted: 5, counted_since_checkpoint: 3, ..Restarts::default() };
        let eta = Timestamp::from_second(1_800_000_000).unwrap();
        status.progress = Some(Progress { step: 5, steps: 20, eta: Some(eta), ..Progress::default() });
        let lines = |status: &Status| {
            let standing = Standing::of(status, Some(&policy)).unwrap();
            text(&HashMap::from([(key.clone(), standing)])).replace("simsiam_operator_run_", "")
        };
        let told = lines(&status);
        for line in [
            "# TYPE phase gauge",
            r#"phase{namespace="n",run="r",phase="Training"} 1"#,
            r#"restarts{namespace="n",run="r",kind="counted"} 5"#,
            r#"restart_budget_used{namespace="n",run="r",limit="maxRestarts"} 0.75"#,
            r#"progress{namespace="n",run="r"} 0.25"#,
            r#"eta_timestamp_seconds{namespace="n",run="r"} 1800000000"#,
        ] {
            assert!(told.lines().any(|l| l == line), "{line} is not in\n{told}");
        }
        assert!(!told.contains("maxPreemptions") && !told.contains("failed"), "{told}");
        status.phase = Some(Phase::Failed);
        status.reason = Some("a \"word\"".into());
        let told = lines(&status);
        let samples: Vec<_> = told.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, [r#"failed{namespace="n",run="r",reason="a \"word\""} 1"#]);
    }
}
