//! The current stage: create its attempt, watch it, classify its end, clean up, continue.

use std::time::Duration;

use jiff::Timestamp;
use simsiam_contract::TerminationMessage;
use simsiam_recipe::Stage;

use super::budget::{RestartKind, count_restart};
use super::classify::{AttemptOutcome, ExitCause, bad_start, classify_exit, faulty_node};
use super::missing::{ForeignObject, foreign_objects, missing_beside, missing_objects};
use super::planner::Planner;
use super::time::{after, whole_seconds};
use super::types::{Action, EventKind, INVALID_SPEC, PlannedEvent, RECONCILED};
use crate::api::{
    Attempt, AttemptState, AvoidedNode, ConditionStatus, RunPhase, StageRecord, StageState, WorkersStatus,
};
use crate::build::{Objects, Shape};
use crate::error::NAME_TAKEN;
use crate::names;
use crate::observe::{JobFacts, PodFacts};

/// How long the first pod's termination message may take to appear after its Job is complete.
const MESSAGE_DELAY: Duration = Duration::from_secs(10);

/// The most nodes that attempts avoid, and for how long: they may be repaired.
const AVOIDED: usize = 3;
const AVOID_FOR: Duration = Duration::from_secs(24 * 3600);

/// How long a Job may take to complete after all its trainers have ended with success.
const SIDECAR_DELAY: Duration = Duration::from_secs(30);

impl Planner<'_> {
    /// Plans the next step of a run that is neither suspended nor finished.
    pub(super) fn proceed(&mut self) {
        let Some(attempt) = self.plan.status.attempt.clone() else {
            match self.run.map(|run| run.recipe.stages().into_iter().next()) {
                Some(Some(first)) => self.begin(first),
                Some(None) => self.fail(INVALID_SPEC, "spec has no stage", None),
                None => self.hold(),
            }
            return;
        };
        match (attempt.state, self.own_job(&attempt)) {
            (AttemptState::Ended, _) => self.clean_up_and_continue(&attempt),
            (AttemptState::Creating, None) => self.create(&attempt),
            (AttemptState::Active, None) => self.restart_after_lost_job(format!("Job {} is gone", attempt.job)),
            (AttemptState::Creating | AttemptState::Active, Some(job)) => {
                if let Some(attempt) = &mut self.plan.status.attempt {
                    attempt.state = AttemptState::Active;
                }
                self.watch(job);
            }
        }
    }

    /// Starts the next attempt at `stage`.
    fn begin(&mut self, stage: Stage) {
        let Some(run) = self.run else {
            self.hold();
            return;
        };
        let now = whole_seconds(self.input.now);
        let status = &mut self.plan.status;
        if status.stage != Some(stage) {
            status.stage = Some(stage);
            status.progress = None;
            // Steps and restart budget belong to a stage.
            status.checkpoint = None;
            status.restarts.checkpoint_step = 0;
            status.restarts.reset_since_checkpoint();
        }
        let index = status.stages.iter().position(|record| record.name == stage).unwrap_or_else(|| {
            let state = StageState::Active;
            status.stages.push(StageRecord { name: stage, state, attempts: 0, started: now, finished: None });
            status.stages.len() - 1
        });
        let record = &mut status.stages[index];
        record.attempts += 1;
        let number = record.attempts;
        let job = names::job(run.name(), &run.identity.uid, stage, number);
        let (state, generation) = (AttemptState::Creating, self.input.object.generation());
        status.avoided_nodes.retain(|node| now < after(node.since, AVOID_FOR));
        let avoid_nodes = status.avoided_nodes.iter().map(|node| node.name.clone()).collect();
        let attempt = Attempt { number, job, state, generation, avoid_nodes, created: now, ended: None };
        status.start_time.get_or_insert(now);
        status.not_before = None;
        status.attempt = Some(attempt.clone());
        let ordinal = if number > 1 { format!(", attempt {number}") } else { String::new() };
        self.plan.note("StageStarted", format!("{}{ordinal}: Job {}", stage.name(), attempt.job));
        self.create(&attempt);
    }

    /// Creates the objects of an attempt, its Job last.
    fn create(&mut self, attempt: &Attempt) {
        let Some(stage) = self.plan.status.stage else { return };
        let Some(run) = self.run else {
            self.hold();
            return;
        };
        let shape = Shape::of(run, stage);
        let gpus = shape.nodes.saturating_mul(shape.gpus);
        self.plan.status.workers = Some(WorkersStatus { nodes: shape.nodes, ready: 0, gpus });
        self.condition("PodsReady", false, "CreatingPods", "");
        let objects = Objects::of(run, stage, attempt, self.input.settings);
        if let Some((reason, message)) = self.obstacle(attempt, &objects) {
            self.set_phase(RunPhase::Pending, reason, &message, None);
            self.requeue_in(10);
            return;
        }
        let conditions = &self.plan.status.conditions;
        let refused = conditions.iter().find(|c| c.kind == RECONCILED && c.status == ConditionStatus::False).cloned();
        match refused {
            Some(refused) => self.set_phase(RunPhase::Pending, &refused.reason, &refused.message, None),
            None => self.set_phase(RunPhase::Pending, "CreatingPods", "", None),
        }
        self.plan.actions.extend(missing_objects(&objects, self.input.observed));
        self.plan.actions.push(Action::CreateJob(Box::new(objects.job)));
        // In case the Job's first event is lost.
        self.requeue_in(30);
    }

    /// What must be gone before the objects of an attempt can be created, as reason and message.
    fn obstacle(&self, attempt: &Attempt, objects: &Objects) -> Option<(&'static str, String)> {
        let (observed, run) = (self.input.observed, self.identity);
        let left = |what: String| {
            let message = format!("{what} of an earlier run named {} still exists", run.key.name);
            Some(("WaitingForOldRun", message))
        };
        let foreign = foreign_objects(objects, observed, &run.uid).into_iter().next();
        if let Some(ForeignObject { kind, name, is_owned }) = foreign {
            if is_owned {
                return left(format!("{kind} {name}"));
            }
            let message =
                format!("{kind} {name} already exists and belongs to no run; delete it, or give the run another name");
            return Some((NAME_TAKEN, message));
        }
        // Their pods have the labels of this run's: two gangs would share its Service and its output.
        let is_own = |owner: &Option<String>| owner.as_ref() == Some(&run.uid);
        let mut jobs = observed.jobs.iter();
        if let Some(job) = jobs.find(|job| !is_own(&job.owner) && job.complete.is_none() && job.failing.is_none()) {
            return left(format!("Job {}", job.name));
        }
        let of_own_job = |pod: &PodFacts| {
            let mut jobs = observed.jobs.iter();
            pod.job == attempt.job || jobs.any(|job| is_own(&job.owner) && pod.owner.as_ref() == Some(&job.uid))
        };
        let mut pods = observed.pods.iter();
        let pod = pods.find(|pod| !pod.is_gone && pod.ended.is_none() && !of_own_job(pod))?;
        left(format!("pod {}", pod.name))
    }

    /// Watches an attempt whose Job exists.
    fn watch(&mut self, job: &JobFacts) {
        let pods = self.input.observed.pods_of(job);
        let done = self.all_trainers_done(job, &pods);
        if self.run.is_none() && (job.complete.is_some() || done.is_some_and(|at| self.input.now >= at)) {
            // The spec says which stage is next. The pods keep the results until then.
            self.hold();
            return;
        }
        if let Some(at) = job.complete {
            let first = pods.iter().find(|pod| pod.index == 0);
            let late = after(at, MESSAGE_DELAY);
            if first.is_some_and(|pod| pod.ended.is_none()) && self.input.now < late {
                self.requeue_in(1);
                return;
            }
            let ended = first.and_then(|pod| pod.ended.as_ref());
            self.finish(&ended.map(|ended| ended.message.clone()).unwrap_or_default());
            return;
        }
        if let Some(at) = done {
            if self.input.now < at {
                self.requeue_at(at);
            } else {
                // Another container, such as an injected sidecar, keeps the pods and so the Job from ending.
                self.plan.actions.push(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
                let first = pods.iter().find(|pod| pod.index == 0).and_then(|pod| pod.ended.as_ref());
                self.finish(&first.map(|ended| ended.message.clone()).unwrap_or_default());
                return;
            }
        }
        if job.deleting.is_some() {
            self.restart_after_lost_job(format!("Job {} was deleted", job.name));
            return;
        }
        if self.is_superseded(job, &pods) {
            self.replace_superseded();
            return;
        }
        let policy = &self.cluster.restart_policy;
        let outcome = classify_exit(job, &pods, self.input.observed, policy, self.input.now);
        if let AttemptOutcome::BadStart(cause) | AttemptOutcome::Restart(_, cause) = &outcome {
            self.avoid_faulty_node(cause, &pods);
        }
        match outcome {
            AttemptOutcome::Active => {
                self.restore_objects(job);
                self.show(job, &pods);
            }
            AttemptOutcome::Undetermined(at) => {
                let message = "the attempt has ended; waiting to learn whether a node was lost";
                self.set_phase(RunPhase::Pending, "Undetermined", message, None);
                self.condition("PodsReady", false, "Undetermined", message);
                self.requeue_at(at);
                // Nodes are polled, not watched.
                self.requeue_in(5);
            }
            AttemptOutcome::BadStart(cause) if self.has_run() => self.restart(RestartKind::Counted, &cause),
            AttemptOutcome::Denied(cause) if self.has_used_storage() => self.restart(RestartKind::Counted, &cause),
            AttemptOutcome::BadStart(cause) | AttemptOutcome::Denied(cause) | AttemptOutcome::Failed(cause) => {
                self.fail(&cause.reason, &cause.message, cause.pod.as_deref())
            }
            AttemptOutcome::Restart(kind, cause) => {
                if kind == RestartKind::Unscheduled {
                    self.use_avoided_nodes();
                }
                self.restart(kind, &cause);
            }
        }
    }

    /// Remembers the node that failed the attempt, if one did, so that the next attempts avoid it.
    fn avoid_faulty_node(&mut self, cause: &ExitCause, pods: &[&PodFacts]) {
        let Some((name, reason)) = faulty_node(cause, pods) else { return };
        self.plan.warn("NodeAvoided", format!("the next attempts avoid node {name}: {reason}: {}", cause.message));
        let since = whole_seconds(self.input.now);
        let avoided = &mut self.plan.status.avoided_nodes;
        avoided.retain(|node| node.name != name);
        avoided.push(AvoidedNode { name, reason, since });
        let surplus = avoided.len().saturating_sub(AVOIDED);
        avoided.drain(..surplus);
    }

    /// The pods of an attempt that avoided nodes could not be scheduled: perhaps for the lack of these.
    fn use_avoided_nodes(&mut self) {
        if self.plan.status.attempt.as_ref().is_none_or(|attempt| attempt.avoid_nodes.is_empty()) {
            return;
        }
        let names: Vec<_> = self.plan.status.avoided_nodes.drain(..).map(|node| node.name).collect();
        let message = format!("the pods could not be scheduled: {} may be used again", names.join(", "));
        self.plan.note("NodesUsedAgain", message);
    }

    /// Whether all pods of an attempt of this run have ever run: then its image and Secrets were there.
    fn has_run(&self) -> bool {
        let status = &self.plan.status;
        let is_done = |record: &StageRecord| record.state == StageState::Done;
        let ran = status.active_since.is_some() || status.active_seconds > 0;
        ran || status.checkpoint.is_some() || status.stages.iter().any(is_done)
    }

    /// Whether the run has read its images or written to its output before: then its credentials were good.
    fn has_used_storage(&mut self) -> bool {
        if let Some(attempt) = self.plan.status.attempt.clone() {
            self.remember_checkpoints(&attempt);
        }
        let status = &self.plan.status;
        let has_made_steps = status.progress.as_ref().is_some_and(|progress| progress.step > 0);
        let is_done = |record: &StageRecord| record.state == StageState::Done;
        has_made_steps || status.checkpoint.is_some() || status.stages.iter().any(is_done)
    }

    /// Whether the attempt cannot start and the spec has changed since it was created.
    fn is_superseded(&self, job: &JobFacts, pods: &[&PodFacts]) -> bool {
        let created_from = self.plan.status.attempt.as_ref().map_or(0, |attempt| attempt.generation);
        let has_changed = created_from > 0 && created_from < self.input.object.generation();
        let is_stuck = |pod: &&PodFacts| {
            !pod.is_gone && (bad_start(pod).is_some() || (pod.node.is_none() && pod.unschedulable.is_some()))
        };
        has_changed && self.run.is_some() && !job.suspended && job.failing.is_none() && pods.iter().any(is_stuck)
    }

    /// Ends an attempt that cannot start; the next one, from the changed spec, follows at once and is not counted.
    fn replace_superseded(&mut self) {
        let Some(mut attempt) = self.plan.status.attempt.clone() else { return };
        attempt.state = AttemptState::Ended;
        attempt.ended = Some(whole_seconds(self.input.now));
        self.plan.status.not_before = None;
        self.plan.status.attempt = Some(attempt.clone());
        let message = format!("attempt {} could not start, and spec has changed since", attempt.number);
        self.plan.note("SpecChanged", message.clone());
        self.clean_up(&attempt);
        self.condition("PodsReady", false, "SpecChanged", &message);
        self.set_phase(RunPhase::Pending, "SpecChanged", &message, None);
        self.clear_workers();
    }

    /// When the trainers of all pods will have been done for long enough for the Job to be complete; `None` while one is
    /// not.
    fn all_trainers_done(&self, job: &JobFacts, pods: &[&PodFacts]) -> Option<Timestamp> {
        let is_unfinished = job.failing.is_none() && job.deleting.is_none() && !job.suspended;
        let done: Vec<_> = pods.iter().filter_map(|pod| pod.ended.as_ref()).filter(|ended| ended.succeeded()).collect();
        let all = is_unfinished && done.len() == pods.len() && pods.len() == job.pods as usize;
        let last = done.iter().filter_map(|ended| ended.at).max()?;
        all.then(|| after(last, SIDECAR_DELAY))
    }

    /// Restores deleted or changed objects of the current attempt.
    fn restore_objects(&mut self, job: &JobFacts) {
        let status = &self.plan.status;
        let Some((stage, attempt)) = status.stage.zip(status.attempt.as_ref()) else { return };
        let Some(run) = self.run else { return };
        let objects = Objects::of(run, stage, attempt, self.input.settings);
        let foreign = foreign_objects(&objects, self.input.observed, &run.identity.uid);
        if foreign.is_empty() {
            self.plan.actions.extend(missing_beside(job, &objects, self.input.observed));
        }
    }

    /// The stage is done.
    fn finish(&mut self, message: &TerminationMessage) {
        let Some(stage) = self.plan.status.stage else { return };
        if let Some(result) = &message.result {
            self.set_results(stage, result);
        }
        self.finish_stage(StageState::Done);
        self.plan.note("StageDone", format!("{} is done", stage.name()));
        let stages = self.run.map(|run| run.recipe.stages()).unwrap_or_default();
        match stages.into_iter().find(|next| *next > stage) {
            Some(next) => self.begin(next),
            None => self.succeed(),
        }
    }

    fn restart_after_lost_job(&mut self, message: String) {
        self.restart(RestartKind::Preempted, &ExitCause { reason: "JobDeleted".into(), message, pod: None });
    }

    /// The attempt ended before its stage was done: another one follows, if the budget allows.
    fn restart(&mut self, kind: RestartKind, cause: &ExitCause) {
        let Some(mut attempt) = self.plan.status.attempt.clone() else { return };
        self.remember_checkpoints(&attempt);
        let step = self.plan.status.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.step);
        let policy = &self.cluster.restart_policy;
        let wait = count_restart(&mut self.plan.status.restarts, policy, kind, step, &self.identity.uid);
        let Some(wait) = wait else {
            let (field, limit) = match kind {
                RestartKind::Counted => ("maxRestarts", policy.max_restarts),
                RestartKind::Preempted => ("maxPreemptions", policy.max_preemptions),
                RestartKind::Unscheduled => ("maxUnscheduled", policy.max_unscheduled.unwrap_or(u32::MAX)),
            };
            let message = format!(
                "more than {limit} restarts without a newer checkpoint (spec.restartPolicy.{field}); the last one: {}",
                cause.message
            );
            self.fail(&cause.reason, &message, cause.pod.as_deref());
            return;
        };
        attempt.state = AttemptState::Ended;
        attempt.ended = Some(whole_seconds(self.input.now));
        self.plan.status.not_before = Some(whole_seconds(after(self.input.now, wait)));
        self.plan.status.attempt = Some(attempt.clone());
        let seconds = wait.as_secs().max(1);
        self.plan.events.push(PlannedEvent {
            warning: kind != RestartKind::Preempted,
            reason: cause.reason.clone(),
            message: format!("attempt {} ended: {}; the next one starts in {seconds} s", attempt.number, cause.message),
            kind: EventKind::Restart,
        });
        self.clean_up(&attempt);
        self.condition("PodsReady", false, &cause.reason, &cause.message);
        self.set_phase(RunPhase::Pending, &cause.reason, &cause.message, cause.pod.as_deref());
        self.clear_workers();
    }

    /// The attempt was classified: once nothing of it is left and its wait is over, the next one follows. The status
    /// keeps the reason of its end until then.
    fn clean_up_and_continue(&mut self, attempt: &Attempt) {
        if self.plan.status.phase == Some(RunPhase::Suspended) {
            self.set_phase(RunPhase::Pending, "Resuming", "", None);
        }
        if !self.clean_up(attempt) {
            return;
        }
        let Some(stage) = self.plan.status.stage else { return };
        match self.plan.status.not_before {
            Some(at) if self.input.now < at => self.requeue_at(at),
            _ => self.begin(stage),
        }
    }
}
