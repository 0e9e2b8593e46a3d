//! Which objects of an attempt are missing or differ from what is wanted, and which do not belong to the run.

use serde::Serialize;
use serde_json::Value;

use super::types::Action;
use crate::build::Objects;
use crate::observe::{Applied, ConfigMapFacts, JobFacts, Observed, contains};

/// The actions that must precede the Job. `Objects` is destructured whole, so that no new object can be forgotten here.
pub(super) fn missing_objects(objects: &Objects, observed: &Observed) -> Vec<Action> {
    let Objects { service, network_policy, config_map, job: _ } = objects;
    let mut actions = Vec::new();
    if !is_current(service, service.metadata.name.as_deref(), &observed.services) {
        actions.push(Action::ApplyService(Box::new(service.clone())));
    }
    if !is_current(network_policy, network_policy.metadata.name.as_deref(), &observed.policies) {
        actions.push(Action::ApplyNetworkPolicy(Box::new(network_policy.clone())));
    }
    if !observed.config_maps.iter().any(|map| Some(&map.name) == config_map.metadata.name.as_ref()) {
        actions.push(Action::CreateConfigMap(Box::new(config_map.clone())));
    }
    actions
}

/// The same while the attempt's Job exists: its pods mount the ConfigMap of the spec that it was created from, which may
/// have changed since.
pub(super) fn missing_beside(job: &JobFacts, objects: &Objects, observed: &Observed) -> Vec<Action> {
    let mut actions = missing_objects(objects, observed);
    actions.retain(|action| match action {
        Action::CreateConfigMap(map) => map.metadata.name == job.config_map,
        _ => true,
    });
    actions
}

/// An object that has the name of one of the run's and another owner.
pub(super) struct ForeignObject {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Whether it has a controller: a deleted run of the same name, with which it will be deleted.
    pub(super) is_owned: bool,
}

/// Objects in the way of `objects`: those with their names that are not owned by the run `uid`.
pub(super) fn foreign_objects(objects: &Objects, observed: &Observed, uid: &str) -> Vec<ForeignObject> {
    let Objects { service, network_policy, config_map, job } = objects;
    let applied = |list: &[Applied]| list.iter().map(|it| (it.name.clone(), it.owner.clone())).collect::<Vec<_>>();
    let of_map = |map: &ConfigMapFacts| (map.name.clone(), map.owner.clone());
    let of_job = |job: &JobFacts| (job.name.clone(), job.owner.clone());
    let all = [
        ("Service", &service.metadata.name, applied(&observed.services)),
        ("NetworkPolicy", &network_policy.metadata.name, applied(&observed.policies)),
        ("ConfigMap", &config_map.metadata.name, observed.config_maps.iter().map(of_map).collect()),
        ("Job", &job.metadata.name, observed.jobs.iter().map(of_job).collect()),
    ];
    all.into_iter()
        .flat_map(|(kind, wanted, there)| {
            let foreign = there
                .into_iter()
                .filter(|(name, owner)| wanted.as_ref() == Some(name) && owner.as_deref() != Some(uid));
            foreign
                .map(move |(name, owner)| ForeignObject { kind, name, is_owned: owner.is_some() })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_current(wanted: &impl Serialize, name: Option<&str>, existing: &[Applied]) -> bool {
    let Some(found) = existing.iter().find(|object| Some(object.name.as_str()) == name) else { return false };
    let wanted = serde_json::to_value(wanted).unwrap_or_default();
    contains(&without_type(found.json.value()), &without_type(wanted))
}

/// Watches omit the type of typed objects.
fn without_type(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    object
}
