//! The run file for the pods: immutable and named by its content, so that a running attempt never sees another one.

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata::metadata;
use crate::api::ValidatedRun;
use crate::names;

/// The key, and the file's name in the pods.
pub const FILE: &str = "run.yaml";

/// The ConfigMap with a run's current recipe.
pub fn config_map(run: &ValidatedRun) -> ConfigMap {
    let document = run.document();
    ConfigMap {
        metadata: metadata(run, names::config_map(run.name(), document)),
        immutable: Some(true),
        data: Some([(FILE.to_owned(), document.to_owned())].into()),
        ..ConfigMap::default()
    }
}
