//! What gang schedulers read from a Job and its pods. Both create the group of the pods from it themselves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::shape::Shape;
use crate::api::{Gang, GangScheduler, Workers};

/// Annotation of a Job: how many pods must start together.
const VOLCANO_MEMBERS: &str = "scheduling.volcano.sh/group-min-member";
/// Annotation of a pod.
const VOLCANO_QUEUE: &str = "scheduling.volcano.sh/queue-name";
/// Annotation of a Job: how many pods must start together; 1 without it.
const KAI_MEMBERS: &str = "kai.scheduler/batch-min-member";
/// Label of a Job and its pods.
const KAI_QUEUE: &str = "kai.scheduler/queue";

/// Marks a Job as a gang.
pub fn mark_job(job: &mut ObjectMeta, workers: &Workers, shape: Shape) {
    let Some(Gang { scheduler, queue }) = &workers.gang else { return };
    let members = match scheduler {
        GangScheduler::Volcano => VOLCANO_MEMBERS,
        GangScheduler::Kai => KAI_MEMBERS,
    };
    job.annotations.get_or_insert_default().insert(members.into(), shape.nodes.to_string());
    if let (GangScheduler::Kai, Some(queue)) = (scheduler, queue) {
        job.labels.get_or_insert_default().insert(KAI_QUEUE.into(), queue.clone());
    }
}

/// Puts the pods into the gang's queue.
pub fn mark_pods(pods: &mut ObjectMeta, workers: &Workers) {
    let Some(Gang { scheduler, queue: Some(queue) }) = &workers.gang else { return };
    match scheduler {
        GangScheduler::Volcano => pods.annotations.get_or_insert_default().insert(VOLCANO_QUEUE.into(), queue.clone()),
        GangScheduler::Kai => pods.labels.get_or_insert_default().insert(KAI_QUEUE.into(), queue.clone()),
    };
}

/// The scheduler of the pods; the cluster's own if `None`.
pub fn scheduler(workers: &Workers) -> Option<String> {
    let of_gang = |gang: &Gang| match gang.scheduler {
        GangScheduler::Volcano => "volcano".to_owned(),
        GangScheduler::Kai => "kai-scheduler".to_owned(),
    };
    workers.scheduler_name.clone().or_else(|| workers.gang.as_ref().map(of_gang))
}
