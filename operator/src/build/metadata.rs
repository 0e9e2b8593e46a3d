//! Metadata of a run's objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use simsiam_recipe::{API_VERSION, KIND};

use crate::api::ValidatedRun;
use crate::names;

/// Metadata of an object of a run: labels, and the run as its owner, so that it is deleted with the run.
pub fn metadata(run: &ValidatedRun, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(run.namespace().to_owned()),
        labels: Some(names::labels(run.name())),
        owner_references: Some(vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            name: run.name().to_owned(),
            uid: run.identity.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}
