//! The end of a run, and what is still to be done after it.

use jiff::Timestamp;

use super::classify::is_lost;
use super::planner::Planner;
use super::time::{after, whole_seconds};
use super::types::Action;
use crate::api::{AttemptState, RunPhase, StageState};
use crate::names;

/// The most characters that are kept of the annotation's value.
const RETRY_LENGTH: usize = 256;

impl Planner<'_> {
    /// The run has failed for good.
    pub(super) fn fail(&mut self, reason: &str, message: &str, pod: Option<&str>) {
        if let Some(attempt) = self.plan.status.attempt.clone() {
            self.remember_checkpoints(&attempt);
        }
        self.finish_stage(StageState::Failed);
        self.set_phase(RunPhase::Failed, reason, message, pod);
        self.condition("Failed", true, reason, message);
        self.condition("Succeeded", false, reason, message);
        self.end();
        self.plan.failure("Failed", format!("{reason}: {message}"));
        self.after_end();
    }

    /// Reopens a failed run if its annotation `simsiam.dev/retry` has a new value. The restart budget is full again; the
    /// next attempt continues from the newest checkpoint.
    pub(super) fn reopen_if_asked(&mut self) {
        let asked = self.input.object.metadata.annotations.as_ref().and_then(|all| all.get(names::RETRY));
        let asked = asked.map(|value| value.chars().take(RETRY_LENGTH).collect::<String>());
        let is_new = asked.is_some() && asked != self.plan.status.retry;
        let status = &mut self.plan.status;
        status.retry = asked;
        if !is_new || status.completion_time.is_none() || status.phase != Some(RunPhase::Failed) {
            return;
        }
        status.completion_time = None;
        status.restarts.reset_since_checkpoint();
        status.avoided_nodes.clear();
        if let Some(record) = status.stages.iter_mut().find(|record| record.state == StageState::Failed) {
            (record.state, record.finished) = (StageState::Active, None);
        }
        if let Some(attempt) = &mut status.attempt {
            attempt.state = AttemptState::Ended;
            attempt.ended.get_or_insert(whole_seconds(self.input.now));
        }
        self.plan.set_phase(RunPhase::Pending, "Retried", "", None);
        self.condition("Failed", false, "Retried", "");
        self.condition("Succeeded", false, "Retried", "");
        self.plan.note("Retried", format!("the annotation {} has changed", names::RETRY));
    }

    /// Every stage is done.
    pub(super) fn succeed(&mut self) {
        self.set_phase(RunPhase::Succeeded, "", "", None);
        self.condition("Succeeded", true, "AllStagesDone", "");
        self.plan.status.attempt = None;
        self.end();
        self.plan.note("Succeeded", "all stages are done".into());
    }

    fn end(&mut self) {
        self.condition("PodsReady", false, "RunEnded", "");
        self.plan.status.completion_time = Some(whole_seconds(self.input.now));
        self.plan.status.not_before = None;
        self.clear_workers();
    }

    /// After the end: pods that still hold resources are deleted; a failed Job whose pods have ended is kept for its
    /// logs. The run is deleted when its `ttl` expires.
    pub(super) fn after_end(&mut self) {
        if let Some(job) = self.plan.status.attempt.as_ref().and_then(|attempt| self.own_job(attempt)) {
            let pods = self.input.observed.pods_of(job);
            let holding = pods.iter().any(|pod| pod.ended.is_none() && !pod.is_gone);
            if holding && job.failing.is_none() && job.deleting.is_none() {
                self.plan.actions.push(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
            }
            for pod in pods.iter().filter(|pod| is_lost(pod, &self.input.observed.nodes)) {
                self.plan.actions.push(Action::ForceDeletePod { name: pod.name.clone(), uid: pod.uid.clone() });
            }
            if holding {
                self.requeue_in(10);
            }
        }
        if let Some(end) = self.plan.status.completion_time {
            self.delete_after_ttl(end);
        }
    }

    /// Deletes the run when its `ttl` since its end has expired.
    pub(super) fn delete_after_ttl(&mut self, end: Timestamp) {
        let Some(ttl) = self.cluster.ttl() else { return };
        let expiry = after(end, ttl);
        if self.input.now >= expiry {
            self.plan.actions.push(Action::DeleteRun);
        } else {
            self.requeue_at(expiry);
        }
    }
}
