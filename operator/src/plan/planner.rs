//! The planner: one run, what is known of it, and the plan made so far.

use std::time::Duration;

use jiff::Timestamp;

use super::time::{after, whole_seconds};
use super::types::{INVALID_SPEC, Input, Plan, set_condition};
use crate::api::{
    Attempt, CheckpointStatus, ClusterSpec, ConditionStatus, RunIdentity, RunPhase, StageState, ValidatedRun,
};
use crate::observe::JobFacts;

/// Plans one step of a run. The files of this folder add its methods; each calls only those of the files below it:
/// `decide` → `attempt` → `finish`, `display`, `cleanup`, `results` → this file.
pub(super) struct Planner<'a> {
    pub(super) input: &'a Input<'a>,
    /// The checked run; `None` if its spec is invalid. Only what needs no spec is then planned.
    pub(super) run: Option<&'a ValidatedRun>,
    pub(super) identity: &'a RunIdentity,
    /// How the cluster runs it; of an invalid spec what can be read.
    pub(super) cluster: &'a ClusterSpec,
    pub(super) plan: Plan,
}

impl<'a> Planner<'a> {
    /// Reconciles again at this time, or earlier if that was requested before.
    pub(super) fn requeue_at(&mut self, at: Timestamp) {
        self.plan.requeue_at = Some(self.plan.requeue_at.map_or(at, |before| before.min(at)));
    }

    pub(super) fn requeue_in(&mut self, seconds: u64) {
        self.requeue_at(after(self.input.now, Duration::from_secs(seconds)));
    }

    pub(super) fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let value = if holds { ConditionStatus::True } else { ConditionStatus::False };
        set_condition(&mut self.plan.status, self.input, kind, value, reason, message);
    }

    pub(super) fn set_phase(&mut self, phase: RunPhase, reason: &str, message: &str, pod: Option<&str>) {
        self.plan.set_phase(phase, reason, message, pod);
    }

    /// Shows that the run continues only when its spec is valid again.
    pub(super) fn hold(&mut self) {
        let message = self.input.run.err().unwrap_or_default();
        self.set_phase(RunPhase::Pending, INVALID_SPEC, message, None);
        self.condition("PodsReady", false, INVALID_SPEC, message);
        self.clear_workers();
    }

    /// The Job of an attempt, if it belongs to this run and not to a deleted one of the same name.
    pub(super) fn own_job(&self, attempt: &Attempt) -> Option<&'a JobFacts> {
        let job = self.input.observed.job(&attempt.job)?;
        (job.owner.as_ref() == Some(&self.identity.uid)).then_some(job)
    }

    /// Sets the state of the current stage's record.
    pub(super) fn finish_stage(&mut self, state: StageState) {
        let now = whole_seconds(self.input.now);
        let Some(stage) = self.plan.status.stage else { return };
        if let Some(record) = self.plan.status.stages.iter_mut().find(|record| record.name == stage) {
            record.state = state;
            record.finished = Some(now);
        }
    }

    /// Removes what holds only while pods run.
    pub(super) fn clear_workers(&mut self) {
        self.plan.status.workers = None;
        if let Some(progress) = &mut self.plan.status.progress {
            progress.images_per_second = None;
            progress.eta = None;
        }
    }

    /// Takes the newest checkpoint from the termination messages of an attempt's pods and from its progress.
    pub(super) fn remember_checkpoints(&mut self, attempt: &Attempt) {
        let observed = self.input.observed;
        let ended = observed.pods.iter().filter(|pod| pod.job == attempt.job).filter_map(|pod| pod.ended.as_ref());
        let live = observed.progress.as_ref().filter(|live| live.job == attempt.job);
        let reported = ended.filter_map(|ended| ended.message.checkpoint.as_ref());
        for checkpoint in reported.chain(live.and_then(|live| live.progress.checkpoint.as_ref())) {
            self.set_checkpoint(checkpoint);
        }
    }

    /// Replaces the checkpoint unless it is newer than this one.
    pub(super) fn set_checkpoint(&mut self, checkpoint: &simsiam_contract::Checkpoint) {
        let newest = &mut self.plan.status.checkpoint;
        if newest.as_ref().is_none_or(|there| checkpoint.step >= there.step) {
            *newest = Some(CheckpointStatus { step: checkpoint.step, uri: checkpoint.uri.clone() });
        }
    }
}

/// A number rounded for display in a table.
pub(super) fn rounded(x: f64, places: i32) -> f64 {
    let factor = 10_f64.powi(places);
    (x * factor).round() / factor
}
