//! The end of a run, and what is still to be done after it.

use super::attempt;
use super::verdict::{is_lost, plus};
use super::{Action, Input, Plan, own_job, record, whole_seconds};
use crate::api::{Phase, Run, StageState};

/// The run has failed, for good.
pub fn fail(input: &Input, reason: &str, message: &str, pod: Option<&str>, plan: &mut Plan) {
    if let Some(attempt) = &plan.status.attempt {
        attempt::remember(input.observed, &attempt.clone(), &mut plan.status.checkpoint);
    }
    record(&mut plan.status, StageState::Failed, input.now);
    plan.stand(Phase::Failed, reason, message, pod);
    plan.condition(input, "Failed", true, reason, message);
    plan.condition(input, "Succeeded", false, reason, message);
    end(input, plan);
    plan.failure("Failed", format!("{reason}: {message}"));
}

/// Every stage is done.
pub fn succeed(input: &Input, plan: &mut Plan) {
    plan.stand(Phase::Succeeded, "", "", None);
    plan.condition(input, "Succeeded", true, "AllStagesDone", "");
    plan.status.attempt = None;
    end(input, plan);
    plan.note("Succeeded", "all stages are done".into());
}

fn end(input: &Input, plan: &mut Plan) {
    plan.condition(input, "PodsReady", false, "RunEnded", "");
    plan.status.completion_time = Some(whole_seconds(input.now));
    plan.status.not_before = None;
    plan.status.workers = None;
    super::forget_speed(plan);
}

/// After the end: pods that still hold something go; a failed Job whose pods have ended stays, for its logs.
pub fn keep(input: &Input, run: &Run, plan: &mut Plan) {
    if let Some(job) = plan.status.attempt.as_ref().and_then(|attempt| own_job(input, attempt)) {
        let pods = input.observed.pods_of(job);
        let holding = pods.iter().any(|pod| pod.ended.is_none() && !pod.is_gone);
        if holding && job.failing.is_none() && job.deleting.is_none() {
            plan.actions.push(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
        }
        for pod in pods.iter().filter(|pod| is_lost(pod, &input.observed.nodes)) {
            plan.actions.push(Action::ForcePod { name: pod.name.clone(), uid: pod.uid.clone() });
        }
        if holding {
            plan.again_in(input.now, 10);
        }
    }
    let Some((ttl, end)) = run.cluster.ttl().zip(plan.status.completion_time) else { return };
    let over = plus(end, ttl);
    if input.now >= over {
        plan.actions.push(Action::DeleteRun);
    } else {
        plan.again_at(over);
    }
}
