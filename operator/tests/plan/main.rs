//! Plans of many situations.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod gitops;
mod invalid;
mod life;
mod limits;
mod ownership;
mod starts;
#[path = "../world/mod.rs"]
mod world;

use simsiam_operator::api::RunPhase;
use simsiam_operator::plan::{Action, Plan};
use world::{World, short};

/// The actions, in short.
pub fn actions(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::ApplyService(_) => "Service".to_owned(),
        Action::ApplyNetworkPolicy(_) => "NetworkPolicy".to_owned(),
        Action::CreateConfigMap(_) => "ConfigMap".to_owned(),
        Action::CreateJob(job) => format!("+{}", short(job.metadata.name.as_deref().unwrap())),
        Action::DeleteJob { name, .. } => format!("-{}", short(name)),
        Action::DeletePod { name, .. } => format!("~{}", short(name)),
        Action::ForceDeletePod { name, .. } => format!("!{}", short(name)),
        Action::DeleteRun => "-run".to_owned(),
    };
    plan.actions.iter().map(word).collect()
}

/// Asserts the phase of the run and its reason.
#[track_caller]
pub fn assert_phase(world: &World, phase: RunPhase, reason: &str) {
    let status = world.status();
    assert_eq!((status.phase, status.reason.as_deref().unwrap_or_default()), (Some(phase), reason), "{status:#?}");
}
