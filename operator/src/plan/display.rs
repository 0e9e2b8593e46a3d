//! Phase and progress of an attempt in progress: only what was observed.

use std::time::Duration;

use simsiam_contract::RankPhase;
use simsiam_recipe::Stage;

use super::classify::{bad_start, start_deadline, start_reason};
use super::planner::{Planner, rounded};
use super::time::{after, whole_seconds};
use crate::api::{ProgressStatus, RunPhase, WorkersStatus};
use crate::build::Shape;
use crate::observe::{EVENTS_DELAY, EVENTS_INTERVAL, JobFacts, Observed, PodFacts};
use crate::progress::{FirstPod, LiveProgress};

/// The shortest time between two writes of the status for progress alone.
const WRITE_INTERVAL: Duration = Duration::from_secs(15);

/// Why not all containers of an attempt run.
struct NotRunning {
    reason: String,
    message: String,
    pod: Option<String>,
}

impl Planner<'_> {
    /// Shows an attempt in progress.
    pub(super) fn show(&mut self, job: &JobFacts, pods: &[&PodFacts]) {
        let Some(stage) = self.plan.status.stage else { return };
        let present: Vec<_> = pods.iter().copied().filter(|pod| !pod.is_gone).collect();
        let ready = present.iter().filter(|pod| pod.ready).count();
        let ready = u32::try_from(ready).unwrap_or(u32::MAX);
        let before = self.plan.status.workers.as_ref().map_or(0, |workers| workers.gpus);
        let gpus = self.run.map_or(before, |run| job.pods.saturating_mul(Shape::of(run, stage).gpus));
        self.plan.status.workers = Some(WorkersStatus { nodes: job.pods, ready, gpus });
        if job.suspended {
            let message = match &self.cluster.queue_name {
                Some(queue) => format!("Job {} waits in queue {queue}", job.name),
                None => format!("Job {} is suspended", job.name),
            };
            self.set_phase(RunPhase::Queued, "WaitingForQuota", &message, None);
            self.condition("PodsReady", false, "Queued", "");
            return;
        }
        if let Some(NotRunning { reason, message, pod }) = not_running(job, &present, self.input.observed) {
            self.set_phase(RunPhase::Pending, &reason, &message, pod.as_deref());
            self.condition("PodsReady", false, &reason, &message);
            self.requeue_while_waiting(job, &present);
            return;
        }
        let all = ready >= job.pods;
        let message = if all { String::new() } else { format!("{ready} of {} pods are ready", job.pods) };
        self.condition("PodsReady", all, if all { "AllReady" } else { "NotAllReady" }, &message);
        let first = present.iter().find(|pod| pod.index == 0 && pod.running);
        self.plan.first_pod = first.and_then(|pod| pod.ip.clone()).map(|ip| FirstPod { ip, job: job.name.clone() });
        let live = self.input.observed.progress.as_ref().filter(|live| live.is_of(stage, &job.name));
        let before = self.plan.status.phase;
        let (phase, reason) = phase_of(stage, live);
        self.set_phase(phase, reason, &message, None);
        if phase == RunPhase::Stalled && before != Some(RunPhase::Stalled) {
            let message = format!("the ranks of {} make no progress; their agent will stop them", job.name);
            self.plan.warn("Stalled", message);
        }
        if let Some(live) = live {
            self.show_progress(live, before != Some(phase));
        }
    }

    /// Reconciles again at the timeouts of pods that do not run, and before to look up their Events.
    fn requeue_while_waiting(&mut self, job: &JobFacts, present: &[&PodFacts]) {
        let now = self.input.now;
        let policy = &self.cluster.restart_policy;
        let timeout = job.started.map(|at| after(at, policy.schedule()));
        let starts = present.iter().filter_map(|pod| start_deadline(job, pod, policy));
        let events = job.started.map(|at| after(at, EVENTS_DELAY)).filter(|at| *at > now);
        let events = events.unwrap_or(after(now, EVENTS_INTERVAL));
        let times: Vec<_> = timeout.into_iter().chain(starts).chain([events]).filter(|at| *at > now).collect();
        for at in times {
            self.requeue_at(at);
        }
    }

    /// Copies live progress into the status, unless that was done a moment ago.
    fn show_progress(&mut self, live: &LiveProgress, phase_changed: bool) {
        let shown = self.plan.status.progress.as_ref().and_then(|progress| progress.seen);
        if !phase_changed && shown.is_some_and(|at| self.input.now < after(at, WRITE_INTERVAL)) {
            return;
        }
        let received = whole_seconds(live.received);
        if Some(received) == shown {
            return;
        }
        let progress = &live.progress;
        self.plan.status.progress = Some(ProgressStatus {
            epoch: progress.epoch,
            epochs: progress.epochs,
            step: progress.step,
            steps: progress.steps,
            loss: progress.loss.map(|x| rounded(x, 4)),
            output_std: progress.output_std.map(|x| rounded(x, 5)),
            healthy_std: progress.healthy_std.map(|x| rounded(x, 5)),
            images_per_second: progress.images_per_second.map(|x| rounded(x, 1)),
            knn_top1: progress.knn_top1.map(|x| rounded(x, 2)),
            linear_top1: progress.linear_top1.map(|x| rounded(x, 2)),
            eta: progress.eta.as_deref().and_then(|eta| eta.parse().ok()).map(whole_seconds),
            seen: Some(received),
        });
        if let Some(checkpoint) = &progress.checkpoint {
            self.set_checkpoint(checkpoint);
        }
    }
}

/// Why not all containers run, most severe first.
fn not_running(job: &JobFacts, pods: &[&PodFacts], observed: &Observed) -> Option<NotRunning> {
    for pod in pods {
        if let Some(waiting) = bad_start(pod) {
            let (reason, message) = (waiting.reason.clone(), waiting.message.clone());
            return Some(NotRunning { reason, message, pod: Some(pod.name.clone()) });
        }
    }
    for pod in pods.iter().filter(|pod| pod.node.is_none()) {
        if let Some(message) = pod.unschedulable.clone() {
            return Some(NotRunning { reason: "Unschedulable".into(), message, pod: Some(pod.name.clone()) });
        }
    }
    let waiting: Vec<_> = pods.iter().filter(|pod| !pod.running && pod.ended.is_none()).collect();
    let created = pods.len();
    if created < job.pods as usize {
        let refused = observed.warning(&job.uid);
        let more = refused.map_or_else(String::new, |event| format!(": {}", event.message));
        let message = format!("{created} of {} pods exist{more}", job.pods);
        return Some(NotRunning { reason: "CreatingPods".into(), message, pod: None });
    }
    let is_explained = |pod: &&&&PodFacts| observed.warning(&pod.uid).is_some();
    let pod = waiting.iter().find(is_explained).or(waiting.first())?;
    let count = format!("{} of {} pods are running", created - waiting.len(), job.pods);
    if pod.node.is_none() {
        return Some(NotRunning { reason: "Scheduling".into(), message: count, pod: Some(pod.name.clone()) });
    }
    let (reason, words) = start_reason(pod, observed);
    let message = if words.is_empty() { count } else { format!("{count}: {words}") };
    Some(NotRunning { reason, message, pod: Some(pod.name.clone()) })
}

/// The run's phase and its reason, from what the first pod's ranks do.
fn phase_of(stage: Stage, live: Option<&LiveProgress>) -> (RunPhase, &'static str) {
    let Some(LiveProgress { progress, .. }) = live else { return (RunPhase::Starting, "ProgressUnknown") };
    if progress.quiet {
        return (RunPhase::Stalled, "Silent");
    }
    match (stage, &progress.phase) {
        (Stage::Prepare, _) => (RunPhase::Starting, "PackingImages"),
        (Stage::Export | Stage::Report, _) => (RunPhase::Exporting, ""),
        (_, None | Some(RankPhase::Rendezvous)) => (RunPhase::Starting, "Rendezvous"),
        (_, Some(RankPhase::Starting)) => (RunPhase::Starting, "FirstStep"),
        (_, Some(RankPhase::Checkpointing)) => (RunPhase::Checkpointing, ""),
        (_, Some(RankPhase::Evaluating)) | (Stage::Knn, _) => (RunPhase::Evaluating, ""),
        // A phase of a newer trainer counts as training.
        (_, Some(RankPhase::Training | RankPhase::Other(_))) => (RunPhase::Training, ""),
    }
}
