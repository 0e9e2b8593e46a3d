//! Where a run stands while its Job goes on: never more than was seen.

use std::time::Duration;

use jiff::Timestamp;
use simsiam_recipe::Stage;

use super::attempt::{newer, rounded};
use super::shape::Shape;
use super::verdict::{bad_start, plus};
use super::{Input, Plan};
use crate::api::{Phase, Progress, Run, WorkersStatus};
use crate::observe::{JobFacts, PodFacts};
use crate::progress::{Leader, Report};

/// Seconds between two writes of progress alone.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// Shows an attempt that goes on.
pub fn show(input: &Input, run: &Run, job: &JobFacts, pods: &[&PodFacts], plan: &mut Plan) {
    let Some(stage) = plan.status.stage else { return };
    let present: Vec<_> = pods.iter().filter(|pod| !pod.is_gone).collect();
    let ready = present.iter().filter(|pod| pod.ready).count();
    let ready = u32::try_from(ready).unwrap_or(u32::MAX);
    let shape = Shape::of(run, stage);
    plan.status.workers = Some(WorkersStatus { nodes: job.pods, ready, gpus: job.pods.saturating_mul(shape.gpus) });
    if job.suspended {
        let queue = run.cluster.queue_name.as_deref().unwrap_or_default();
        plan.stand(Phase::Queued, "WaitingForQuota", &format!("Job {} waits in queue {queue}", job.name), None);
        plan.condition(input, "PodsReady", false, "Queued", "");
        return;
    }
    let bound = job.started.map(|at| plus(at, run.cluster.restart_policy.schedule()));
    if let Some((reason, message, pod)) = not_running(job, &present) {
        plan.stand(Phase::Pending, reason, &message, pod);
        plan.condition(input, "PodsReady", false, reason, &message);
        if let Some(at) = bound.filter(|at| *at > input.now) {
            plan.again_at(at);
        }
        return;
    }
    let all = ready >= job.pods;
    let message = if all { String::new() } else { format!("{ready} of {} pods answer", job.pods) };
    plan.condition(input, "PodsReady", all, if all { "AllReady" } else { "NotAllReady" }, &message);
    let leader = present.iter().find(|pod| pod.index == 0);
    plan.follow =
        leader.filter(|pod| pod.running).and_then(|pod| pod.ip.clone()).map(|ip| Leader { ip, job: job.name.clone() });
    let report = input.observed.progress.as_ref().filter(|report| report.is_of(stage, &job.name));
    let before = plan.status.phase;
    let (phase, reason) = of_report(stage, report);
    plan.stand(phase, reason, &message, None);
    if phase == Phase::Stalled && before != Some(Phase::Stalled) {
        let message = format!("no rank of {} has made progress for long; its agent will end it", job.name);
        plan.warn("Stalled", message);
    }
    if let Some(report) = report {
        take(report, before != Some(phase), input.now, plan);
    }
}

/// Why not every pod's container runs: the worst first.
fn not_running<'a>(job: &JobFacts, pods: &[&&'a PodFacts]) -> Option<(&'a str, String, Option<&'a str>)> {
    if let Some(pod) = pods.iter().find(|pod| bad_start(pod).is_some()) {
        let (reason, message) = pod.waiting.as_ref()?;
        return Some((reason, message.clone(), Some(&pod.name)));
    }
    if let Some(pod) = pods.iter().find(|pod| pod.node.is_none() && pod.unschedulable.is_some()) {
        return Some(("Unschedulable", pod.unschedulable.clone()?, Some(&pod.name)));
    }
    let waiting: Vec<_> = pods.iter().filter(|pod| !pod.running && pod.ended.is_none()).collect();
    let created = pods.len();
    if created < job.pods as usize {
        return Some(("CreatingPods", format!("{created} of {} pods exist", job.pods), None));
    }
    let pod = waiting.first()?;
    let reason = if pod.node.is_none() { "Scheduling" } else { "ContainerCreating" };
    Some((reason, format!("{} of {} pods run", created - waiting.len(), job.pods), Some(&pod.name)))
}

fn of_report(stage: Stage, report: Option<&Report>) -> (Phase, &'static str) {
    let Some(report) = report else { return (Phase::Starting, "ProgressUnknown") };
    if report.quiet {
        return (Phase::Stalled, "Silent");
    }
    match (stage, report.phase.as_deref()) {
        (Stage::Prepare, _) => (Phase::Starting, "PackingImages"),
        (Stage::Export | Stage::Report, _) => (Phase::Exporting, ""),
        (_, None | Some("rendezvous")) => (Phase::Starting, "Rendezvous"),
        (_, Some("starting")) => (Phase::Starting, "FirstStep"),
        (_, Some("checkpointing")) => (Phase::Checkpointing, ""),
        (_, Some("evaluating")) | (Stage::Knn, _) => (Phase::Evaluating, ""),
        (_, Some(_)) => (Phase::Training, ""),
    }
}

/// Takes in what the leader told, not more often than people look.
fn take(report: &Report, changed: bool, now: Timestamp, plan: &mut Plan) {
    let shown = plan.status.progress.as_ref().and_then(|progress| progress.seen);
    if !changed && shown.is_some_and(|at| now < plus(at, WRITE_EVERY)) {
        return;
    }
    if report.seen.is_some_and(|seen| Some(super::whole_seconds(seen)) == shown) {
        return;
    }
    plan.status.progress = Some(Progress {
        epoch: report.epoch,
        epochs: report.epochs,
        step: report.step,
        steps: report.steps,
        loss: report.loss.map(|x| rounded(x, 4)),
        output_std: report.output_std.map(|x| rounded(x, 5)),
        healthy_std: report.healthy_std.map(|x| rounded(x, 5)),
        images_per_second: report.images_per_second.map(|x| rounded(x, 1)),
        knn_top1: report.knn_top1.map(|x| rounded(x, 2)),
        linear_top1: report.linear_top1.map(|x| rounded(x, 2)),
        eta: report.eta.map(super::whole_seconds),
        seen: report.seen.map(super::whole_seconds),
    });
    if let Some(checkpoint) = &report.checkpoint {
        newer(&mut plan.status.checkpoint, checkpoint);
    }
}
