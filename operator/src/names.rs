//! Names and labels of a run's objects, in one place.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use simsiam_recipe::Stage;

/// Who manages the objects.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The operator's name in [`MANAGED_BY`], and as a field manager.
pub const OPERATOR: &str = "simsiam-operator";
/// The run an object belongs to.
pub const RUN: &str = "simsiam.dev/run";
/// The stage that a Job or pod runs.
pub const STAGE: &str = "simsiam.dev/stage";
/// The attempt that a Job or pod is.
pub const ATTEMPT: &str = "simsiam.dev/attempt";
/// The Job a pod belongs to, as Kubernetes writes it.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// A pod's index in its Job, as Kubernetes writes it.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Kueue's queue of a Job.
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// The trainer's container.
pub const CONTAINER: &str = "trainer";

/// The objects that the operator watches.
pub fn selector() -> String {
    format!("{MANAGED_BY}={OPERATOR}")
}

/// Labels of every object of a run.
pub fn labels(run: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "simsiam-trainer"), (MANAGED_BY, OPERATOR), (RUN, run)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The headless Service that gives the pods of a run their names.
pub fn service(run: &str) -> String {
    format!("{run}-workers")
}

/// The NetworkPolicy of a run.
pub fn network_policy(run: &str) -> String {
    format!("{run}-workers")
}

/// The ConfigMap of a run file, named by its content.
pub fn config_map(run: &str, document: &str) -> String {
    let digest: String = Sha256::digest(document).iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{run}-recipe-{digest}")
}

/// The Job of an attempt. A run's name has at most 40 characters, so a pod's host name fits the 63 of a DNS label.
pub fn job(run: &str, stage: Stage, attempt: u32) -> String {
    format!("{run}-{}-{attempt}", stage.name())
}

/// Where the pods of a Job find its first one.
pub fn leader(run: &str, job: &str, namespace: &str) -> String {
    format!("{job}-0.{}.{namespace}.svc", service(run))
}
