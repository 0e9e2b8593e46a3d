//! What a pod requests from its node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodResourceClaim, ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::shape::Shape;
use crate::api::Workers;

/// Requests of a pod that names none: enough to be scheduled with care and not to be the first that an overloaded node
/// kills, as pods of class BestEffort are.
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];

/// Whether a pod requests GPUs or other devices.
pub fn requests_devices(workers: &Workers, shape: Shape) -> bool {
    let others = !workers.resources.extended.is_empty() || !workers.resource_claims.is_empty();
    shape.gpus > 0 || (shape.devices && others)
}

/// The resources of the trainer's container.
pub fn resources(workers: &Workers, shape: Shape) -> ResourceRequirements {
    let asked = &workers.resources;
    let mut limits: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut ask = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            limits.insert(name.to_owned(), Quantity(value.to_owned()));
        }
    };
    ask("cpu", asked.cpu.as_deref());
    ask("memory", asked.memory.as_deref());
    ask("ephemeral-storage", asked.ephemeral_storage.as_deref());
    if shape.nodes > 1
        && let Some(name) = &workers.network.rdma_resource
    {
        ask(name, Some("1"));
    }
    if shape.devices {
        asked.extended.iter().for_each(|(name, quantity)| ask(name, Some(quantity)));
    }
    if shape.gpus > 0 {
        ask(&workers.gpu_resource, Some(&shape.gpus.to_string()));
    }
    let mut requests = limits.clone();
    for (name, quantity) in DEFAULT_REQUESTS {
        requests.entry(name.to_owned()).or_insert_with(|| Quantity(quantity.to_owned()));
    }
    let claims = claimed(workers, shape).map(|claim| ResourceClaim { name: claim.name.clone(), request: None });
    let claims = Some(claims.collect::<Vec<_>>()).filter(|claims| !claims.is_empty());
    ResourceRequirements { limits: Some(limits).filter(|map| !map.is_empty()), requests: Some(requests), claims }
}

/// The claims of a pod for dynamic resource allocation.
pub fn claims(workers: &Workers, shape: Shape) -> Option<Vec<PodResourceClaim>> {
    let claims = claimed(workers, shape).map(|claim| PodResourceClaim {
        name: claim.name.clone(),
        resource_claim_name: claim.resource_claim_name.clone(),
        resource_claim_template_name: claim.resource_claim_template_name.clone(),
    });
    Some(claims.collect::<Vec<_>>()).filter(|claims| !claims.is_empty())
}

fn claimed(workers: &Workers, shape: Shape) -> impl Iterator<Item = &crate::api::ResourceClaim> {
    workers.resource_claims.iter().filter(move |_| shape.devices)
}
