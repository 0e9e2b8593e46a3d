//! The run file for the pods: immutable, and named by its content, since a running attempt must not see another.

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::api::{Run, SimSiamRun};
use crate::names;

/// The key, and the file's name in the pods.
pub const FILE: &str = "run.yaml";

/// The ConfigMap of a run's current recipe.
pub fn config_map(object: &SimSiamRun, run: &Run) -> ConfigMap {
    let document = run.document();
    ConfigMap {
        metadata: metadata(object, run, names::config_map(&run.name, document)),
        immutable: Some(true),
        data: Some([(FILE.to_owned(), document.to_owned())].into()),
        ..ConfigMap::default()
    }
}
