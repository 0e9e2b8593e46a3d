//! An attempt: one Indexed Job, created once and then only observed or deleted.

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use simsiam_recipe::Stage;

use super::metadata::metadata;
use super::settings::Settings;
use super::shape::Shape;
use super::{gang, pod};
use crate::api::{Attempt, ValidatedRun};
use crate::names;

/// The Job of an attempt.
pub fn job(run: &ValidatedRun, stage: Stage, attempt: &Attempt, settings: &Settings) -> Job {
    let shape = Shape::of(run, stage);
    let nodes = i32::try_from(shape.nodes).unwrap_or(i32::MAX);
    let mut metadata = metadata(run, attempt.job.clone());
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::STAGE.into(), stage.name().into());
    labels.insert(names::ATTEMPT.into(), attempt.number.to_string());
    if let Some(class) = &run.cluster.workload_priority_class_name {
        labels.insert(names::WORKLOAD_PRIORITY.into(), class.clone());
    }
    let queue = run.cluster.queue_name.clone();
    if let Some(queue) = &queue {
        labels.insert(names::QUEUE.into(), queue.clone());
    }
    gang::mark_job(&mut metadata, &run.cluster.workers, shape);
    Job {
        metadata,
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".into()),
            completions: Some(nodes),
            parallelism: Some(nodes),
            backoff_limit: Some(0),
            // A queued Job is created suspended; its queue resumes it.
            suspend: Some(queue.is_some()),
            // The whole gang is replaced, never one pod.
            pod_replacement_policy: Some("Failed".into()),
            pod_failure_policy: Some(failure_policy()),
            template: pod::template(run, stage, attempt, shape, settings),
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// Any pod that ends before its stage is done fails the whole Job: `Ignore` and `Count` would create one new pod beside a
/// broken gang.
fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: "True".into(),
                }]),
                on_exit_codes: None,
            },
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: None,
                    operator: "NotIn".into(),
                    values: vec![0],
                }),
                on_pod_conditions: None,
            },
        ],
    }
}
