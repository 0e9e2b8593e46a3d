//! One step of the stage under way: create its attempt, watch it, judge it, clear it away, go on.

use serde_json::Value;
use simsiam_recipe::Stage;

use super::budget::{self, Kind};
use super::shape::Shape;
use super::verdict::{Cause, Judgement, Verdict, is_lost, judge, plus};
use super::{Action, Input, Note, Of, Plan, RECONCILED, finish, own_job, phase, record, whole_seconds};
use crate::api::{
    Attempt, AttemptState, Checkpoint, ConditionStatus, Phase, Run, StageRecord, StageState, Status, WorkersStatus,
};
use crate::build;
use crate::names;
use crate::observe::{JobFacts, LastWord, Observed};

/// Seconds that a pod may outlive its grace period on a node that is ready, before it is forced.
const STUCK_SECONDS: u64 = 60;
/// Seconds that a finished leader's last words may be behind its Job's.
const LATE_WORDS_SECONDS: u64 = 10;

/// Plans the next step of a run that is neither suspended nor over.
pub fn proceed(input: &Input, run: &Run, plan: &mut Plan) {
    let Some(attempt) = plan.status.attempt.clone() else {
        match run.recipe.stages().first() {
            Some(first) => begin(input, run, *first, plan),
            None => finish::fail(input, "InvalidSpec", "spec asks for no stage", None, plan),
        }
        return;
    };
    match (attempt.state, own_job(input, &attempt)) {
        (AttemptState::Ended, _) => clear_and_go_on(input, run, &attempt, plan),
        (AttemptState::Creating, None) => create(input, run, &attempt, plan),
        (AttemptState::Active, None) => {
            let message = format!("Job {} is gone", attempt.job);
            let cause = Cause { reason: "JobDeleted".into(), message, pod: None };
            restart(input, run, Kind::Preempted, &cause, plan);
        }
        (AttemptState::Creating | AttemptState::Active, Some(job)) => {
            if let Some(attempt) = &mut plan.status.attempt {
                attempt.state = AttemptState::Active;
            }
            watch(input, run, job, plan);
        }
    }
}

/// Decides on the next attempt at `stage` and creates it.
fn begin(input: &Input, run: &Run, stage: Stage, plan: &mut Plan) {
    let now = whole_seconds(input.now);
    let status = &mut plan.status;
    if status.stage != Some(stage) {
        status.stage = Some(stage);
        status.progress = None;
        // Steps and the budget are a stage's own.
        status.checkpoint = None;
        status.restarts.checkpoint_step = 0;
        status.restarts.counted_since_checkpoint = 0;
        status.restarts.uncounted_since_checkpoint = 0;
    }
    let record = match status.stages.iter_mut().find(|record| record.name == stage) {
        Some(record) => record,
        None => {
            status.stages.push(StageRecord {
                name: stage,
                state: StageState::Active,
                attempts: 0,
                started: now,
                finished: None,
            });
            let last = status.stages.len() - 1;
            &mut status.stages[last]
        }
    };
    record.attempts += 1;
    let number = record.attempts;
    let job = names::job(&run.name, stage, number);
    let attempt = Attempt { number, job, state: AttemptState::Creating, created: now, ended: None };
    status.start_time.get_or_insert(now);
    status.not_before = None;
    status.attempt = Some(attempt.clone());
    let again = if number > 1 { format!(", attempt {number}") } else { String::new() };
    plan.note("StageStarted", format!("{}{again}: Job {}", stage.name(), attempt.job));
    create(input, run, &attempt, plan);
}

/// Creates what an attempt needs, its Job last.
fn create(input: &Input, run: &Run, attempt: &Attempt, plan: &mut Plan) {
    let Some(stage) = plan.status.stage else { return };
    let shape = Shape::of(run, stage);
    plan.status.workers =
        Some(WorkersStatus { nodes: shape.nodes, ready: 0, gpus: shape.nodes.saturating_mul(shape.gpus) });
    plan.condition(input, "PodsReady", false, "CreatingPods", "");
    if input.observed.job(&attempt.job).is_some() {
        let message = format!("Job {} of a deleted run of the same name is still there", attempt.job);
        plan.stand(Phase::Pending, "WaitingForOldJob", &message, None);
        plan.again_in(input.now, 10);
        return;
    }
    let refused = plan.status.conditions.iter().find(|c| c.kind == RECONCILED && c.status == ConditionStatus::False);
    let (reason, message) = refused.map_or(("CreatingPods", ""), |c| (c.reason.as_str(), c.message.as_str()));
    let (reason, message) = (reason.to_owned(), message.to_owned());
    plan.stand(Phase::Pending, &reason, &message, None);
    let objects = build::Objects::of(input.object, run, stage, attempt, input.settings);
    plan.actions.extend(objects.missing(input.observed));
    plan.actions.push(Action::CreateJob(Box::new(objects.job)));
    // Should the Job's first event be lost.
    plan.again_in(input.now, 30);
}

/// Looks at an attempt whose Job is there.
fn watch(input: &Input, run: &Run, job: &JobFacts, plan: &mut Plan) {
    let pods = input.observed.pods_of(job);
    if let Some(at) = job.complete {
        let leader = pods.iter().find(|pod| pod.index == 0);
        let late = plus(at, std::time::Duration::from_secs(LATE_WORDS_SECONDS));
        if leader.is_some_and(|pod| pod.ended.is_none()) && input.now < late {
            plan.again_in(input.now, 1);
            return;
        }
        let word = leader.and_then(|pod| pod.ended.as_ref()).map(|ended| ended.word.clone()).unwrap_or_default();
        done(input, run, &word, plan);
        return;
    }
    if job.deleting.is_some() {
        let message = format!("Job {} was deleted", job.name);
        restart(input, run, Kind::Preempted, &Cause { reason: "JobDeleted".into(), message, pod: None }, plan);
        return;
    }
    match judge(job, &pods, &input.observed.nodes, &run.cluster.restart_policy, input.now) {
        Judgement::GoesOn => phase::show(input, run, job, &pods, plan),
        Judgement::Until(at) => {
            let message = "the attempt has ended; waiting for news of a lost node before it is judged";
            plan.stand(Phase::Pending, "Judging", message, None);
            plan.condition(input, "PodsReady", false, "Judging", message);
            plan.again_at(at);
            // Nodes are asked about, not watched.
            plan.again_in(input.now, 5);
        }
        Judgement::Ended(verdict) => {
            let (kind, cause) = match verdict {
                Verdict::Fail(cause) => {
                    finish::fail(input, &cause.reason, &cause.message, cause.pod.as_deref(), plan);
                    finish::keep(input, run, plan);
                    return;
                }
                Verdict::Counted(cause) => (Kind::Counted, cause),
                Verdict::Uncounted(cause) => (Kind::Preempted, cause),
                Verdict::Unscheduled(cause) => (Kind::Unscheduled, cause),
            };
            restart(input, run, kind, &cause, plan);
        }
    }
}

/// The stage is done.
fn done(input: &Input, run: &Run, word: &LastWord, plan: &mut Plan) {
    let Some(stage) = plan.status.stage else { return };
    if let Some(result) = &word.result {
        take_results(&mut plan.status, stage, result);
    }
    record(&mut plan.status, StageState::Done, input.now);
    plan.note("StageDone", format!("{} is done", stage.name()));
    match run.recipe.stages().into_iter().find(|next| *next > stage) {
        Some(next) => begin(input, run, next, plan),
        None => finish::succeed(input, plan),
    }
}

/// The attempt ended before its stage did: another one follows, if the budget allows.
fn restart(input: &Input, run: &Run, kind: Kind, cause: &Cause, plan: &mut Plan) {
    let Some(mut attempt) = plan.status.attempt.clone() else { return };
    remember(input.observed, &attempt, &mut plan.status.checkpoint);
    let step = plan.status.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.step);
    let salt = input.object.metadata.uid.as_deref().unwrap_or_default();
    let policy = &run.cluster.restart_policy;
    let wait = budget::spend(&mut plan.status.restarts, policy, kind, step, salt);
    let Some(wait) = wait else {
        let (field, most) = match kind {
            Kind::Counted => ("maxRestarts", policy.max_restarts),
            Kind::Preempted | Kind::Unscheduled => ("maxPreemptions", policy.max_preemptions),
        };
        let message = format!(
            "more than {most} restarts without a newer checkpoint (spec.restartPolicy.{field}); the last one: {}",
            cause.message
        );
        finish::fail(input, &cause.reason, &message, cause.pod.as_deref(), plan);
        finish::keep(input, run, plan);
        return;
    };
    attempt.state = AttemptState::Ended;
    attempt.ended = Some(whole_seconds(input.now));
    let not_before = plus(input.now, wait);
    plan.status.not_before = Some(whole_seconds(not_before));
    plan.status.attempt = Some(attempt.clone());
    let seconds = wait.as_secs().max(1);
    plan.notes.push(Note {
        warning: kind != Kind::Preempted,
        reason: cause.reason.clone(),
        message: format!("attempt {} ended: {}; the next follows in {seconds} s", attempt.number, cause.message),
        of: Of::Restart,
    });
    clear(input, &attempt, plan);
    plan.condition(input, "PodsReady", false, &cause.reason, &cause.message);
    plan.stand(Phase::Pending, &cause.reason, &cause.message, cause.pod.as_deref());
    plan.status.workers = None;
    super::forget_speed(plan);
}

/// The attempt was judged: once nothing of it is left, and not too soon, the next one follows. The reason stays what
/// it was.
fn clear_and_go_on(input: &Input, run: &Run, attempt: &Attempt, plan: &mut Plan) {
    if plan.status.phase == Some(Phase::Suspended) {
        plan.stand(Phase::Pending, "Resuming", "", None);
    }
    if !clear(input, attempt, plan) {
        return;
    }
    let Some(stage) = plan.status.stage else { return };
    match plan.status.not_before {
        Some(at) if input.now < at => plan.again_at(at),
        _ => begin(input, run, stage, plan),
    }
}

/// Removes what is left of an attempt; whether nothing is.
pub fn clear(input: &Input, attempt: &Attempt, plan: &mut Plan) -> bool {
    // Pods that were told to stop write a checkpoint first, and say so at their end.
    remember(input.observed, attempt, &mut plan.status.checkpoint);
    let job = own_job(input, attempt);
    if let Some(job) = job.filter(|job| job.deleting.is_none()) {
        plan.actions.push(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
    }
    let left: Vec<_> = input.observed.pods.iter().filter(|pod| pod.job == attempt.job && !pod.is_gone).collect();
    for pod in &left {
        let stuck = pod.deadline.map(|at| plus(at, std::time::Duration::from_secs(STUCK_SECONDS)));
        let dead = is_lost(pod, &input.observed.nodes);
        if dead || stuck.is_some_and(|at| input.now >= at) {
            plan.actions.push(Action::ForcePod { name: pod.name.clone(), uid: pod.uid.clone() });
            let node = pod.node.as_deref().unwrap_or("no node");
            plan.warn("PodForced", format!("pod {} on {node} was removed without its node's word", pod.name));
        }
    }
    if job.is_some() || !left.is_empty() {
        plan.again_in(input.now, 5);
        return false;
    }
    true
}

/// Takes the newest checkpoint from the last words of an attempt's pods.
pub fn remember(observed: &Observed, attempt: &Attempt, newest: &mut Option<Checkpoint>) {
    let words = observed.pods.iter().filter(|pod| pod.job == attempt.job).filter_map(|pod| pod.ended.as_ref());
    for checkpoint in words.filter_map(|ended| ended.word.checkpoint.as_ref()) {
        newer(newest, checkpoint);
    }
    let report = observed.progress.as_ref().filter(|report| report.job == attempt.job);
    if let Some(checkpoint) = report.and_then(|report| report.checkpoint.as_ref()) {
        newer(newest, checkpoint);
    }
}

/// Replaces a checkpoint by a newer one.
pub fn newer(newest: &mut Option<Checkpoint>, checkpoint: &Checkpoint) {
    if newest.as_ref().is_none_or(|there| checkpoint.step >= there.step) {
        *newest = Some(checkpoint.clone());
    }
}

/// Puts a finished stage's results where users look for them.
fn take_results(status: &mut Status, stage: Stage, result: &Value) {
    let mut results = status.results.clone().unwrap_or_default();
    let number = |path: &str| result.pointer(path).and_then(Value::as_f64).map(|x| rounded(x, 4));
    let text = |path: &str| result.pointer(path).and_then(Value::as_str).map(str::to_owned);
    match stage {
        Stage::Prepare => {}
        Stage::Pretrain => {
            results.loss = number("/loss");
            results.output_std = result.pointer("/outputStd").and_then(Value::as_f64).map(|x| rounded(x, 6));
            results.images_per_second = number("/imagesPerSecond").map(|x| rounded(x, 1));
            results.weights_sha256 = text("/weightsSha256");
            results.checkpoint = text("/checkpoint");
        }
        Stage::Knn => results.knn_top1 = number("/knn/0/top1"),
        Stage::Linear => {
            results.linear_top1 = number("/linear/top1");
            results.linear_top5 = number("/linear/top5");
            results.caveat = text("/linear/caveat");
        }
        Stage::Finetune => {
            results.finetune_top1 = number("/finetune/top1");
            results.finetune_top5 = number("/finetune/top5");
        }
        Stage::Export => {
            let files = result.pointer("/exports").and_then(Value::as_array).into_iter().flatten();
            results.exports = files.filter_map(|file| file["file"].as_str().map(str::to_owned)).take(16).collect();
        }
        Stage::Report => results.report = text("/report"),
    }
    status.results = Some(results);
}

/// To so many places: tables show a number as it stands.
pub fn rounded(x: f64, places: i32) -> f64 {
    let factor = 10_f64.powi(places);
    (x * factor).round() / factor
}
