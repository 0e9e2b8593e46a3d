//! Names and labels of a run's objects, defined once.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
pub use simsiam_contract::names::label::{ATTEMPT, RUN, STAGE};
use simsiam_recipe::Stage;

/// The label that names the manager of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The operator's name in [`MANAGED_BY`], and as a field manager.
pub const OPERATOR: &str = "simsiam-operator";
/// The Job that a pod belongs to; set by Kubernetes.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// A pod's index in its Job; set by Kubernetes.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation whose new value reopens a failed run.
pub const RETRY: &str = "simsiam.dev/retry";
/// Kueue's label for the queue of a Job.
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Kueue's label for the priority of a Job.
pub const WORKLOAD_PRIORITY: &str = "kueue.x-k8s.io/priority-class";
/// The trainer's container.
pub const CONTAINER: &str = "trainer";

/// The label selector of the objects that the operator watches.
pub fn selector() -> String {
    format!("{MANAGED_BY}={OPERATOR}")
}

/// Labels of every object of a run.
pub fn labels(run: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "simsiam-trainer"), (MANAGED_BY, OPERATOR), (RUN, run)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Labels that select the pods of a run.
pub fn pod_selector(run: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY, OPERATOR), (RUN, run)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The headless Service that gives the pods of a run their DNS names.
pub fn service(run: &str) -> String {
    format!("{run}-workers")
}

/// The NetworkPolicy of a run.
pub fn network_policy(run: &str) -> String {
    format!("{run}-workers")
}

/// The ConfigMap with a run file, named by its content.
pub fn config_map(run: &str, document: &str) -> String {
    format!("{run}-recipe-{}", simsiam_recipe::hex(&Sha256::digest(document)[..5]))
}

/// The Job of an attempt. It ends with a part of the run's uid, so that a run and a later one of the same name never share
/// the name of a Job, nor their first pods a DNS name. A run's name has at most 40 characters, so a pod's host name fits
/// the 63 of a DNS label.
pub fn job(run: &str, uid: &str, stage: Stage, attempt: u32) -> String {
    format!("{run}-{}-{attempt}-{}", stage.name(), suffix(uid))
}

/// Three characters that depend on a run's uid.
pub fn suffix(uid: &str) -> String {
    let digest = Sha256::digest(uid);
    digest.iter().take(3).filter_map(|byte| char::from_digit(u32::from(byte % 36), 36)).collect()
}

/// The DNS name of a Job's first pod.
pub fn first_pod_address(run: &str, job: &str, namespace: &str) -> String {
    format!("{job}-0.{}.{namespace}.svc", service(run))
}
