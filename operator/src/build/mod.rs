//! The objects of a run, each by a pure function in a file of its own.

mod config_map;
mod job;
mod network_policy;
mod pod;
mod service;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use simsiam_recipe::{API_VERSION, KIND, Stage};

use crate::api::{Attempt, Run, SimSiamRun};
use crate::names;
use crate::observe::{Applied, Observed, says};
use crate::plan::Action;

/// What the operator was started with, as far as it shows in objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The image of runs that name none.
    pub trainer_image: String,
    /// The operator's namespace, from which it asks pods for their progress.
    pub namespace: String,
    /// Labels of the operator's pods.
    pub operator_labels: BTreeMap<String, String>,
    /// Who may scrape the pods' metrics; `None` lets nobody.
    pub prometheus: Option<Peer>,
}

/// Pods somewhere in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Their namespace; any if empty.
    pub namespace: Option<String>,
    /// Labels of theirs; any if empty.
    pub labels: BTreeMap<String, String>,
}

/// All objects of an attempt.
#[derive(Debug, Clone)]
pub struct Objects {
    /// Names for the pods.
    pub service: Service,
    /// Who may talk to the pods.
    pub network_policy: NetworkPolicy,
    /// The run file.
    pub config_map: ConfigMap,
    /// The pods.
    pub job: Job,
}

impl Objects {
    /// Builds them.
    pub fn of(object: &SimSiamRun, run: &Run, stage: Stage, attempt: &Attempt, settings: &Settings) -> Self {
        Self {
            service: service::service(object, run),
            network_policy: network_policy::network_policy(object, run, settings),
            config_map: config_map::config_map(object, run),
            job: job::job(object, run, stage, attempt, settings),
        }
    }

    /// What must be applied before the Job. Destructured whole, so that no object can be forgotten here.
    pub fn missing(&self, observed: &Observed) -> Vec<Action> {
        let Self { service, network_policy, config_map, job: _ } = self;
        let mut actions = Vec::new();
        if !is_there(service, service.metadata.name.as_deref(), &observed.services) {
            actions.push(Action::ApplyService(Box::new(service.clone())));
        }
        if !is_there(network_policy, network_policy.metadata.name.as_deref(), &observed.policies) {
            actions.push(Action::ApplyNetworkPolicy(Box::new(network_policy.clone())));
        }
        if !observed.config_maps.iter().any(|name| Some(name) == config_map.metadata.name.as_ref()) {
            actions.push(Action::CreateConfigMap(Box::new(config_map.clone())));
        }
        actions
    }
}

fn is_there(wanted: &impl Serialize, name: Option<&str>, there: &[Applied]) -> bool {
    let Some(found) = there.iter().find(|object| Some(object.name.as_str()) == name) else { return false };
    let mut wanted = serde_json::to_value(wanted).unwrap_or_default();
    if let Some(fields) = wanted.as_object_mut() {
        // Watches leave them out of typed objects.
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    let mut there = found.json.value();
    if let Some(fields) = there.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    says(&there, &wanted)
}

/// Metadata of an object of a run: labels, and the run as its owner, so that it goes when the run goes.
fn metadata(object: &SimSiamRun, run: &Run, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: object.metadata.namespace.clone(),
        labels: Some(names::labels(&run.name)),
        owner_references: Some(vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            name: run.name.clone(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// Labels by which the pods of a run are found.
fn pods_of(run: &Run) -> BTreeMap<String, String> {
    [(names::MANAGED_BY, names::OPERATOR), (names::RUN, run.name.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
