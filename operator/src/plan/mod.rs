//! What is to be done: a pure function of a run, of what was observed, and of the time.
//!
//! A run goes through its stages, each in one or more attempts, one Job each. An attempt's number and its end are
//! written into the status before anything is done about them, and a status is only written over the one it was
//! planned from; so no attempt is created or counted twice, whatever the caches show and wherever the operator is
//! stopped.

mod attempt;
mod budget;
mod finish;
mod phase;
pub mod shape;
pub mod verdict;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::{Attempt, AttemptState, Condition, ConditionStatus, Phase, Run, SimSiamRun, StageState, Status};
use crate::build::Settings;
use crate::observe::Observed;
use crate::progress::Leader;
use verdict::plus;

/// What planning reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The object.
    pub object: &'a SimSiamRun,
    /// What its `spec` says, or what is wrong with it.
    pub run: Result<&'a Run, &'a str>,
    /// Its children.
    pub observed: &'a Observed,
    /// What the operator was started with.
    pub settings: &'a Settings,
    /// The time.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The status to write, before anything else.
    pub status: Status,
    /// Then these, in order.
    pub actions: Vec<Action>,
    /// What a person would want to know, once the status is written.
    pub notes: Vec<Note>,
    /// When to look again although nothing happens.
    pub again: Option<Timestamp>,
    /// The pod to ask for progress.
    pub follow: Option<Leader>,
}

/// A change to the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Apply the Service of the run.
    ApplyService(Box<Service>),
    /// Apply the NetworkPolicy of the run.
    ApplyNetworkPolicy(Box<NetworkPolicy>),
    /// Create the run file for the pods.
    CreateConfigMap(Box<ConfigMap>),
    /// Create an attempt's Job.
    CreateJob(Box<Job>),
    /// Delete a Job and then its pods.
    DeleteJob {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete a pod without waiting for its node.
    ForcePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete the run itself: its time to live is over.
    DeleteRun,
}

/// An Event to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Is it a warning?
    pub warning: bool,
    /// In a word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// What it is of, where that is counted.
    pub of: Of,
}

/// What a note is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A restart; the note's reason is the cause.
    Restart,
    /// A run's failure; the status has its reason.
    Failure,
    /// Anything else.
    Else,
}

impl Plan {
    fn note(&mut self, reason: &str, message: String) {
        self.notes.push(Note { warning: false, reason: reason.to_owned(), message, of: Of::Else });
    }

    fn warn(&mut self, reason: &str, message: String) {
        self.notes.push(Note { warning: true, reason: reason.to_owned(), message, of: Of::Else });
    }

    fn failure(&mut self, reason: &str, message: String) {
        self.notes.push(Note { warning: true, reason: reason.to_owned(), message, of: Of::Failure });
    }

    /// Looks again at this time, or earlier if asked before.
    fn again_at(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |before| before.min(at)));
    }

    fn again_in(&mut self, now: Timestamp, seconds: u64) {
        self.again_at(plus(now, Duration::from_secs(seconds)));
    }

    /// Sets where the run stands and why.
    fn stand(&mut self, phase: Phase, reason: &str, message: &str, pod: Option<&str>) {
        let some = |text: &str| (!text.is_empty()).then(|| clipped(text, 2048));
        self.status.phase = Some(phase);
        self.status.reason = some(reason);
        self.status.message = some(message);
        self.status.pod = pod.map(str::to_owned);
    }

    fn condition(&mut self, input: &Input, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        set_condition(&mut self.status, input, kind, status, reason, message);
    }
}

/// Sets a condition; its transition time changes only when its status does.
fn set_condition(status: &mut Status, input: &Input, kind: &str, holds: ConditionStatus, reason: &str, message: &str) {
    let generation = input.object.metadata.generation.unwrap_or(0);
    let before = status.conditions.iter().find(|c| c.kind == kind && c.status == holds);
    let condition = Condition {
        kind: kind.to_owned(),
        status: holds,
        reason: clipped(reason, 128),
        message: clipped(message, 2048),
        last_transition_time: before.map_or(whole_seconds(input.now), |c| c.last_transition_time),
        observed_generation: generation,
    };
    match status.conditions.iter_mut().find(|c| c.kind == kind) {
        Some(there) => *there = condition,
        None => status.conditions.push(condition),
    }
}

/// The condition that says whether the operator itself gets along; for errors outside of planning.
pub fn reconciled(status: &mut Status, input: &Input, error: Option<(&str, &str)>) {
    match error {
        None => set_condition(status, input, RECONCILED, ConditionStatus::True, "Reconciled", ""),
        Some((reason, message)) => {
            set_condition(status, input, RECONCILED, ConditionStatus::False, reason, message);
        }
    }
}

const RECONCILED: &str = "Reconciled";

/// Kubernetes' times have no fractions.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Plans one step. A run of another controller, or one that is being deleted, is left alone.
pub fn plan(input: &Input) -> Plan {
    let mut plan = Plan { status: input.object.status(), ..Plan::default() };
    if input.object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let run = match input.run {
        Ok(run) => run,
        Err(words) => {
            refused(input, words, &mut plan);
            return plan;
        }
    };
    if run.cluster.is_anothers() {
        return plan;
    }
    plan.status.observed_generation = input.object.metadata.generation.unwrap_or(0);
    decide(input, run, &mut plan);
    if plan.actions.is_empty() {
        // With nothing left to do, what could not be done before has been.
        reconciled(&mut plan.status, input, None);
    }
    plan
}

fn decide(input: &Input, run: &Run, plan: &mut Plan) {
    if plan.status.completion_time.is_some() {
        finish::keep(input, run, plan);
        return;
    }
    if let (Some(bound), Some(start)) = (run.cluster.active_deadline(), plan.status.start_time) {
        let deadline = plus(start, bound);
        if input.now >= deadline {
            let message = format!(
                "the run has taken longer than spec.activeDeadline ({})",
                run.cluster.active_deadline.as_deref().unwrap_or_default()
            );
            finish::fail(input, "DeadlineExceeded", &message, None, plan);
            finish::keep(input, run, plan);
            return;
        }
        plan.again_at(deadline);
    }
    if run.cluster.suspend {
        suspend(input, plan);
    } else {
        if plan.status.phase == Some(Phase::Suspended) {
            plan.note("Resumed", "spec.suspend is false again".into());
        }
        if plan.status.conditions.iter().any(|c| c.kind == "Suspended") {
            plan.condition(input, "Suspended", false, "Resumed", "");
        }
        attempt::proceed(input, run, plan);
    }
}

/// The spec is wrong: a run that never began has failed, until its spec is mended; one under way goes on.
fn refused(input: &Input, words: &str, plan: &mut Plan) {
    plan.status.observed_generation = input.object.metadata.generation.unwrap_or(0);
    reconciled(&mut plan.status, input, Some(("InvalidSpec", words)));
    if plan.status.attempt.is_none() && plan.status.completion_time.is_none() {
        if plan.status.phase != Some(Phase::Failed) {
            plan.failure("InvalidSpec", words.to_owned());
        }
        plan.stand(Phase::Failed, "InvalidSpec", words, None);
    }
}

fn suspend(input: &Input, plan: &mut Plan) {
    if plan.status.phase != Some(Phase::Suspended) {
        plan.note("Suspended", "spec.suspend is true: pods are stopped after a checkpoint".into());
    }
    plan.condition(input, "Suspended", true, "SuspendedByUser", "");
    plan.status.not_before = None;
    if let Some(attempt) = &mut plan.status.attempt {
        if attempt.state != AttemptState::Ended {
            attempt.state = AttemptState::Ended;
            attempt.ended = Some(whole_seconds(input.now));
        }
        let attempt = attempt.clone();
        let cleared = attempt::clear(input, &attempt, plan);
        let reason = if cleared { "" } else { "Stopping" };
        plan.stand(Phase::Suspended, reason, "", None);
    } else {
        plan.stand(Phase::Suspended, "", "", None);
    }
    plan.status.workers = None;
    forget_speed(plan);
}

/// What is only true while pods run.
fn forget_speed(plan: &mut Plan) {
    if let Some(progress) = &mut plan.status.progress {
        progress.images_per_second = None;
        progress.eta = None;
    }
}

/// The record of the stage under way.
fn record(status: &mut Status, state: StageState, now: Timestamp) {
    let Some(stage) = status.stage else { return };
    if let Some(record) = status.stages.iter_mut().find(|record| record.name == stage) {
        record.state = state;
        record.finished = Some(whole_seconds(now));
    }
}

/// The Job of an attempt, as long as it is this run's own.
fn own_job<'a>(input: &Input<'a>, attempt: &Attempt) -> Option<&'a crate::observe::JobFacts> {
    let uid = input.object.metadata.uid.as_deref().unwrap_or_default();
    input.observed.job(&attempt.job).filter(|job| job.owner == uid)
}
