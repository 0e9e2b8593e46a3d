//! What a run needs next: nothing, to be suspended, to fail at its deadline, or a step of its current stage.

use std::time::Duration;

use super::planner::Planner;
use super::summary::summarise;
use super::time::{after, whole_seconds};
use super::types::{Input, Plan, set_reconciled};
use crate::api::{AttemptState, RunPhase};

/// Plans one step of a run: a pure function of its input.
///
/// A run of another controller, one that is being deleted, or one whose status cannot be read, is left alone.
pub fn plan(input: &Input) -> Plan {
    let Ok(status) = input.object.status() else { return Plan::default() };
    let mut plan = Plan { status, ..Plan::default() };
    if input.object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let run = match input.run {
        Ok(run) => run,
        Err(message) => {
            refuse(input, message, &mut plan);
            return plan;
        }
    };
    if run.cluster.has_other_manager() {
        return plan;
    }
    plan.status.observed_generation = input.object.generation();
    let mut planner = Planner { input, run, plan };
    planner.decide();
    planner.update_active_time();
    let mut plan = planner.plan;
    if plan.actions.is_empty() {
        // Nothing is left to do, so whatever failed before has been done.
        set_reconciled(&mut plan.status, input, None);
    }
    summarise(&mut plan.status, input);
    plan
}

/// The spec is invalid: a run that never started has failed until its spec is corrected; one in progress continues.
fn refuse(input: &Input, message: &str, plan: &mut Plan) {
    plan.status.observed_generation = input.object.generation();
    set_reconciled(&mut plan.status, input, Some(("InvalidSpec", message)));
    if plan.status.attempt.is_none() && plan.status.completion_time.is_none() {
        if plan.status.phase != Some(RunPhase::Failed) {
            plan.failure("InvalidSpec", message.to_owned());
        }
        plan.set_phase(RunPhase::Failed, "InvalidSpec", message, None);
    }
    summarise(&mut plan.status, input);
}

impl Planner<'_> {
    fn decide(&mut self) {
        self.reopen_if_asked();
        self.sweep();
        if self.plan.status.completion_time.is_some() {
            self.after_end();
            return;
        }
        if self.deadline_exceeded() {
            return;
        }
        if self.run.cluster.suspend {
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

    /// Fails a run whose pods have run for longer than `activeDeadline`.
    fn deadline_exceeded(&mut self) -> bool {
        let Some(bound) = self.run.cluster.active_deadline() else { return false };
        let Some(left) = bound.checked_sub(self.active_time()).filter(|left| !left.is_zero()) else {
            let text = self.run.cluster.active_deadline.as_deref().unwrap_or_default();
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
            if let Some(bound) = self.run.cluster.active_deadline() {
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
