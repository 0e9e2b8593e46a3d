//! Removing the objects of an ended attempt.

use std::time::Duration;

use super::classify::is_lost;
use super::planner::Planner;
use super::time::after;
use super::types::Action;
use crate::api::Attempt;
use crate::observe::JobFacts;

/// How long a pod may outlive its grace period on a ready node before it is deleted by force.
const STUCK: Duration = Duration::from_secs(60);

impl Planner<'_> {
    /// Deletes Jobs of earlier attempts that are still unfinished: no step of the run looks at them any more. A Job that is
    /// ahead of the status is left alone, since the status may be outdated.
    pub(super) fn sweep(&mut self) {
        let status = &self.plan.status;
        let is_past = |job: &JobFacts| match (&status.attempt, status.stage, job.stage.zip(job.attempt)) {
            (Some(current), Some(stage), Some(attempt)) => attempt < (stage, current.number),
            (Some(_), ..) => false,
            (None, ..) => status.completion_time.is_some(),
        };
        let is_left = |job: &&JobFacts| {
            let unfinished = job.complete.is_none() && job.deleting.is_none();
            unfinished && job.owner.as_ref() == Some(&self.identity.uid) && is_past(job)
        };
        let left = self.input.observed.jobs.iter().filter(is_left);
        let delete = |job: &JobFacts| Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() };
        let actions: Vec<_> = left.map(delete).collect();
        self.plan.actions.extend(actions);
    }

    /// Deletes what is left of an attempt. Returns whether nothing is.
    pub(super) fn clean_up(&mut self, attempt: &Attempt) -> bool {
        // Pods that were asked to stop write a checkpoint first and report it when they exit.
        self.remember_checkpoints(attempt);
        let job = self.own_job(attempt);
        if let Some(job) = job.filter(|job| job.deleting.is_none()) {
            self.plan.actions.push(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
        }
        let observed = self.input.observed;
        let left: Vec<_> = observed.pods.iter().filter(|pod| pod.job == attempt.job && !pod.is_gone).collect();
        for pod in &left {
            // Its Job was deleted without it (`kubectl delete job --cascade=orphan`), and nobody else would stop it.
            if job.is_none() && pod.deleting.is_none() {
                self.plan.actions.push(Action::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() });
            }
            let stuck = pod.deadline.is_some_and(|at| self.input.now >= after(at, STUCK));
            if stuck || is_lost(pod, &observed.nodes) {
                self.plan.actions.push(Action::ForceDeletePod { name: pod.name.clone(), uid: pod.uid.clone() });
                let place = pod.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
                self.plan.warn(
                    "PodForced",
                    format!("pod {}{place} was deleted without its kubelet's confirmation", pod.name),
                );
            }
        }
        if job.is_some() || !left.is_empty() {
            self.requeue_in(5);
            return false;
        }
        true
    }
}
