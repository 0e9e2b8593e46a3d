//! What a run needs next: nothing, to be suspended, to fail at its deadline, or a step of its current stage.

use std::time::Duration;

use super::conditions::set_reconciled;
use super::planner::Planner;
use super::summary::summarise;
use super::time::{after, whole_seconds};
use super::types::{INVALID_SPEC, Input, Plan, RECONCILED};
use crate::api::{AttemptState, ClusterSpec, Condition, ConditionStatus, RunIdentity, RunPhase};

/// Plans one step of a run: a pure function of its input.
///
/// A run of another controller, one that is being deleted, or one whose status cannot be read, is left alone.
pub fn plan(input: &Input) -> Plan {
    let Ok(status) = input.object.status() else { return Plan::default() };
    let mut plan = Plan { status, ..Plan::default() };
    if input.object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let Ok(identity) = RunIdentity::of(input.object) else { return plan };
    let salvaged;
    let cluster = match input.run {
        Ok(run) => &run.cluster,
        Err(_) => {
            salvaged = ClusterSpec::salvaged(&input.object.spec.value());
            &salvaged
        }
    };
    if cluster.has_other_manager() {
        return plan;
    }
    plan.status.observed_generation = input.object.generation();
    let mut planner = Planner { input, run: input.run.ok(), identity: &identity, cluster, plan };
    match input.run {
        Err(message) if planner.has_not_begun() => planner.refuse(message),
        _ => planner.decide(),
    }
    planner.update_active_time();
    let mut plan = planner.plan;
    if let Err(message) = input.run {
        let is_known = |c: &Condition| c.kind == RECONCILED && c.reason == INVALID_SPEC;
        if plan.status.phase != Some(RunPhase::Failed) && !plan.status.conditions.iter().any(is_known) {
            plan.warn(INVALID_SPEC, message.to_owned());
        }
        set_reconciled(&mut plan.status, input, Some((INVALID_SPEC, message)));
    } else if plan.actions.is_empty() {
        // Nothing is left to do, so whatever failed before has been done.
        set_reconciled(&mut plan.status, input, None);
    }
    summarise(&mut plan.status, input);
    plan
}

impl Planner<'_> {
    fn has_not_begun(&self) -> bool {
        self.plan.status.attempt.is_none() && self.plan.status.completion_time.is_none()
    }

    /// The spec of a run that never started is invalid: the run has failed until its spec is corrected, or its `ttl` has
    /// expired.
    fn refuse(&mut self, message: &str) {
        if self.plan.status.phase != Some(RunPhase::Failed) {
            self.plan.failure(INVALID_SPEC, message.to_owned());
        }
        self.set_phase(RunPhase::Failed, INVALID_SPEC, message, None);
        self.condition("Failed", true, INVALID_SPEC, message);
        self.condition("Succeeded", false, INVALID_SPEC, message);
        let failed = self.plan.status.conditions.iter().find(|c| c.kind == "Failed");
        let since = failed.map_or(self.input.now, |failed| failed.last_transition_time);
        self.delete_after_ttl(since);
    }

    /// A run of an invalid spec in progress continues; whatever needs no spec is done: it is watched, suspended, and ended
    /// at its deadline.
    fn decide(&mut self) {
        if self.run.is_some() {
            self.reopen_if_asked();
            self.correct();
        }
        self.sweep();
        if self.plan.status.completion_time.is_some() {
            self.after_end();
            return;
        }
        if self.deadline_exceeded() {
            return;
        }
        if self.cluster.suspend {
            self.suspend();
            return;
        }
        if self.plan.status.phase == Some(RunPhase::Suspended) {
            self.plan.note("Resumed", "spec.suspend is false again".into());
        }
        if self.plan.status.conditions.iter().any(|c| c.kind == "Suspended") {
            self.condition("Suspended", false, "Resumed", "");
        }
        self.proceed();
    }

    /// The spec is valid: what the status says of an invalid one is over.
    fn correct(&mut self) {
        if self.plan.status.conditions.iter().any(|c| c.kind == RECONCILED && c.reason == INVALID_SPEC) {
            self.condition(RECONCILED, true, RECONCILED, "");
        }
        let is_refusal = |c: &&Condition| c.kind == "Failed" && c.reason == INVALID_SPEC;
        let was_refused = self.plan.status.conditions.iter().find(is_refusal);
        if self.has_not_begun() && was_refused.is_some_and(|c| c.status == ConditionStatus::True) {
            self.condition("Failed", false, "SpecCorrected", "");
            self.condition("Succeeded", false, "SpecCorrected", "");
        }
    }

    /// Fails a run whose pods have run for longer than `activeDeadline`.
    fn deadline_exceeded(&mut self) -> bool {
        let Some(bound) = self.cluster.active_deadline() else { return false };
        let Some(left) = bound.checked_sub(self.active_time()).filter(|left| !left.is_zero()) else {
            let text = self.cluster.active_deadline.as_deref().unwrap_or_default();
            let message = format!("the run's pods have run for longer than spec.activeDeadline ({text})");
            self.fail("DeadlineExceeded", &message, None);
            return true;
        };
        if self.plan.status.active_since.is_some() {
            self.requeue_at(after(self.input.now, left));
        }
        false
    }

    /// How long all pods of the run have run, over all attempts.
    fn active_time(&self) -> Duration {
        let status = &self.plan.status;
        let current = status.active_since.map(|since| self.input.now.duration_since(since));
        let current = current.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
        Duration::from_secs(status.active_seconds).saturating_add(current)
    }

    /// Starts or stops the clock of `activeDeadline` as the phase demands.
    fn update_active_time(&mut self) {
        let is_active = self.plan.status.phase.is_some_and(RunPhase::is_active);
        if is_active == self.plan.status.active_since.is_some() {
            return;
        }
        if is_active {
            self.plan.status.active_since = Some(whole_seconds(self.input.now));
            if let Some(bound) = self.cluster.active_deadline() {
                self.requeue_at(after(self.input.now, bound.saturating_sub(self.active_time())));
            }
        } else {
            self.plan.status.active_seconds = self.active_time().as_secs();
            self.plan.status.active_since = None;
        }
    }

    fn suspend(&mut self) {
        if self.plan.status.phase != Some(RunPhase::Suspended) {
            self.plan.note("Suspended", "spec.suspend is true: pods are stopped after a checkpoint".into());
        }
        self.condition("Suspended", true, "SuspendedByUser", "");
        self.plan.status.not_before = None;
        let mut reason = "";
        if let Some(attempt) = &mut self.plan.status.attempt {
            if attempt.state != AttemptState::Ended {
                attempt.state = AttemptState::Ended;
                attempt.ended = Some(whole_seconds(self.input.now));
            }
            let attempt = attempt.clone();
            if !self.clean_up(&attempt) {
                reason = "Stopping";
            }
        }
        self.set_phase(RunPhase::Suspended, reason, "", None);
        self.clear_workers();
    }
}
