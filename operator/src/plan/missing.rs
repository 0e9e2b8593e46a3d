//! Which objects of an attempt are missing or differ from what is wanted.

use serde::Serialize;
use serde_json::Value;

use super::types::Action;
use crate::build::Objects;
use crate::observe::{Applied, Observed, contains};

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
    if !observed.config_maps.iter().any(|name| Some(name) == config_map.metadata.name.as_ref()) {
        actions.push(Action::CreateConfigMap(Box::new(config_map.clone())));
    }
    actions
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
