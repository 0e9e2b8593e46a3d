//! What a run needs next: nothing, to be suspended, to fail at its deadline, or a step of its current stage.

use super::planner::Planner;
use super::time::{after, whole_seconds};
use super::types::{Input, Plan, set_reconciled};
use crate::api::{AttemptState, RunPhase};

/// Plans one step of a run: a pure function of its input.
///
/// A run of another controller, or one that is being deleted, is left alone.
pub fn plan(input: &Input) -> Plan {
    let mut plan = Plan { status: input.object.status(), ..Plan::default() };
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
    let mut plan = planner.plan;
    if plan.actions.is_empty() {
        // Nothing is left to do, so whatever failed before has been done.
        set_reconciled(&mut plan.status, input, None);
    }
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
}

impl Planner<'_> {
    fn decide(&mut self) {
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

    /// Fails a run whose `activeDeadline` has passed.
    fn deadline_exceeded(&mut self) -> bool {
        let cluster = &self.run.cluster;
        let (Some(bound), Some(start)) = (cluster.active_deadline(), self.plan.status.start_time) else {
            return false;
        };
        let deadline = after(start, bound);
        if self.input.now < deadline {
            self.requeue_at(deadline);
            return false;
        }
        let text = cluster.active_deadline.as_deref().unwrap_or_default();
        self.fail("DeadlineExceeded", &format!("the run has taken longer than spec.activeDeadline ({text})"), None);
        true
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
