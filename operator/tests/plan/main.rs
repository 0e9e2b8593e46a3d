//! What is planned, in a table of situations.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod life;
#[path = "../world/mod.rs"]
mod world;

use simsiam_operator::api::Phase;
use simsiam_operator::plan::{Action, Plan};
use world::World;

/// What is done, in short.
pub fn done(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::ApplyService(_) => "Service".to_owned(),
        Action::ApplyNetworkPolicy(_) => "NetworkPolicy".to_owned(),
        Action::CreateConfigMap(_) => "ConfigMap".to_owned(),
        Action::CreateJob(job) => format!("+{}", job.metadata.name.clone().unwrap()),
        Action::DeleteJob { name, .. } => format!("-{name}"),
        Action::ForcePod { name, .. } => format!("!{name}"),
        Action::DeleteRun => "-run".to_owned(),
    };
    plan.actions.iter().map(word).collect()
}

/// Where the run stands, and why.
#[track_caller]
pub fn stands(world: &World, phase: Phase, reason: &str) {
    let status = world.status();
    assert_eq!((status.phase, status.reason.as_deref().unwrap_or_default()), (Some(phase), reason), "{status:#?}");
}
