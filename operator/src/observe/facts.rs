//! What the operator keeps of each object: a fraction of it, so that the objects of many runs fit into memory.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodCondition, PodSpec, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use serde_json::Value;
use simsiam_contract::{ExitCode, TerminationMessage};
use simsiam_recipe::Stage;

use crate::api::Json;
use crate::names;

/// What is kept of an object of a run.
pub trait Facts: Clone + Send + Sync + 'static {
    /// The object.
    type Object;
    /// Reads the object; `None` if it lacks what every such object of a run has, as its uid.
    fn of(object: &Self::Object) -> Option<Self>;
    /// What is kept after the object is gone; `None` forgets it.
    fn gone(&self) -> Option<Self> {
        None
    }
}

/// A pod of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodFacts {
    /// Name of the pod.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its Job's name.
    pub job: String,
    /// The uid of its controller, its Job; `None` for an orphaned pod.
    pub owner: Option<String>,
    /// Its index in the Job.
    pub index: u32,
    /// Its node, once it is scheduled.
    pub node: Option<String>,
    /// When it was scheduled.
    pub scheduled: Option<Timestamp>,
    /// Its IP address.
    pub ip: Option<String>,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// Whether its container runs.
    pub running: bool,
    /// The scheduler's message, if the pod cannot be scheduled.
    pub unschedulable: Option<String>,
    /// Why its container does not start.
    pub waiting: Option<Waiting>,
    /// How its container ended.
    pub ended: Option<Termination>,
    /// The limit that the container exceeded, if it was killed for its memory and had one.
    pub memory_limit: Option<MemoryLimit>,
    /// The condition `DisruptionTarget`.
    pub disrupted: Option<Disruption>,
    /// When its deletion was requested.
    pub deleting: Option<Timestamp>,
    /// When its grace period ends.
    pub deadline: Option<Timestamp>,
    /// Whether the object no longer exists.
    pub is_gone: bool,
}

/// A memory limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The quantity.
    pub quantity: String,
    /// Whether a LimitRange of the namespace set it, rather than the run.
    pub by_limit_range: bool,
}

/// Why a container does not start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The kubelet's reason, such as ImagePullBackOff.
    pub reason: String,
    /// The kubelet's message.
    pub message: String,
}

/// That a pod is about to be deleted by a disruption: pre-emption, eviction, a taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disruption {
    /// When the condition became true.
    pub at: Timestamp,
    /// The condition's reason, such as EvictionByEvictionAPI.
    pub reason: String,
    /// The condition's message.
    pub message: String,
}

/// How a pod ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Termination {
    /// The trainer's exit code; `None` for a pod that failed without a container's exit code (evicted, or refused by its
    /// node).
    pub code: Option<ExitCode>,
    /// The kubelet's reason, such as OOMKilled.
    pub reason: String,
    /// When.
    pub at: Option<Timestamp>,
    /// The trainer's termination message.
    pub message: TerminationMessage,
}

impl Termination {
    /// Whether the trainer finished its stage.
    pub fn succeeded(&self) -> bool {
        self.code == Some(ExitCode::Done)
    }
}

/// The kubelet's reason for a container that was killed for its memory.
pub const OOM_KILLED: &str = "OOMKilled";
/// The annotation in which Kubernetes' admission records what a LimitRange has set.
const LIMIT_RANGER: &str = "kubernetes.io/limit-ranger";

/// The memory limit of a pod's trainer.
fn memory_limit(pod: &Pod) -> Option<MemoryLimit> {
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == names::CONTAINER)?;
    let quantity = container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone();
    let record = pod.annotations().get(LIMIT_RANGER);
    // "LimitRanger plugin set: cpu, memory request for container trainer; cpu, memory limit for container trainer"
    let limit = format!("limit for container {}", names::CONTAINER);
    let is_limit = |part: &str| part.contains(&limit) && part.contains("memory");
    Some(MemoryLimit { quantity, by_limit_range: record.is_some_and(|record| record.split(';').any(is_limit)) })
}

impl PodFacts {
    /// Whether the pod is on a node and its container has not begun to run.
    pub fn is_starting(&self) -> bool {
        self.node.is_some() && !self.running && self.ended.is_none() && self.deleting.is_none() && !self.is_gone
    }
}

/// Reasons of `waiting` that a container passes through before it starts.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

impl Facts for PodFacts {
    type Object = Pod;

    fn of(pod: &Pod) -> Option<Self> {
        let label = |key: &str| pod.labels().get(key).cloned();
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let find = |kind: &str, value: &str| conditions.iter().find(|c| c.type_ == kind && c.status == value);
        let container = status.container_statuses.unwrap_or_default().into_iter().find(|c| c.name == names::CONTAINER);
        let state = container.as_ref().and_then(|c| c.state.clone()).unwrap_or_default();
        let terminated = state.terminated.map(|t| Termination {
            code: Some(exit_code(t.exit_code)),
            reason: t.reason.unwrap_or_default(),
            at: t.finished_at.map(|time| time.0),
            message: TerminationMessage::parse(&t.message.unwrap_or_default()),
        });
        // A pod that was evicted, or ended before its container began, has no container with an exit code.
        let failed = status.phase.as_deref() == Some("Failed");
        // A pod that exceeded its own ephemeral storage is evicted as well, but is no disruption: the code with which its
        // container answered the SIGTERM says nothing about the cause.
        let exceeded =
            failed && status.reason.as_deref() == Some("Evicted") && find("DisruptionTarget", "True").is_none();
        let ended = match terminated {
            Some(ended) if !exceeded => Some(ended),
            other => failed.then(|| {
                let ended = other.unwrap_or_default();
                let message = status.message.clone().unwrap_or_default();
                Termination {
                    code: None,
                    reason: status.reason.clone().unwrap_or_else(|| "PodFailed".into()),
                    at: ended.at,
                    message: TerminationMessage { message, code: None, reason: None, ..ended.message },
                }
            }),
        };
        let deadline = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        Some(Self {
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            job: label(names::JOB_NAME)?,
            owner: controller_of(&pod.metadata),
            index: label(names::COMPLETION_INDEX)?.parse().ok()?,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            scheduled: find("PodScheduled", "True").and_then(|c| Some(c.last_transition_time.as_ref()?.0)),
            ip: status.pod_ip,
            ready: find("Ready", "True").is_some(),
            running: state.running.is_some(),
            unschedulable: find("PodScheduled", "False").map(|c| c.message.clone().unwrap_or_default()),
            waiting: state
                .waiting
                .map(|w| Waiting { reason: w.reason.unwrap_or_default(), message: w.message.unwrap_or_default() })
                .filter(|waiting| !STARTING.contains(&waiting.reason.as_str())),
            memory_limit: ended.as_ref().filter(|ended| ended.reason == OOM_KILLED).and_then(|_| memory_limit(pod)),
            ended,
            disrupted: find("DisruptionTarget", "True").map(disruption),
            deleting: deadline.map(|time| time.checked_sub(jiff::SignedDuration::from_secs(grace)).unwrap_or(time)),
            deadline,
            is_gone: false,
        })
    }

    /// A pod's termination must not be lost before its attempt was classified.
    fn gone(&self) -> Option<Self> {
        Some(Self { is_gone: true, running: false, ready: false, ..self.clone() })
    }
}

/// Kubernetes' exit codes are 32 bits wide, those of Linux 8.
fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::Crash(u8::MAX), ExitCode::from_code)
}

/// The uid of an object's controller.
fn controller_of(metadata: &ObjectMeta) -> Option<String> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
}

fn disruption(condition: &PodCondition) -> Disruption {
    Disruption {
        at: condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    }
}

/// An attempt's Job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFacts {
    /// Name of the Job.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The uid of its controller, its run.
    pub owner: Option<String>,
    /// The stage that it runs; `None` if its label is missing.
    pub stage: Option<Stage>,
    /// The number of its attempt; `None` if its label is missing.
    pub attempt: Option<u32>,
    /// The number of its pods.
    pub pods: u32,
    /// The ConfigMap that its pods mount.
    pub config_map: Option<String>,
    /// Whether it is suspended, or its controller has not noticed yet that it no longer is: until then `started` is that of
    /// the last admission.
    pub suspended: bool,
    /// When the Job controller started to create its pods.
    pub started: Option<Timestamp>,
    /// When all its pods had succeeded.
    pub complete: Option<Timestamp>,
    /// Why it fails.
    pub failing: Option<JobFailure>,
    /// When its deletion was requested.
    pub deleting: Option<Timestamp>,
}

/// The Job controller's decision that a Job fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// When the condition became true.
    pub at: Timestamp,
    /// The condition's reason, such as PodFailurePolicy.
    pub reason: String,
    /// The condition's message.
    pub message: String,
}

impl Facts for JobFacts {
    type Object = Job;

    fn of(job: &Job) -> Option<Self> {
        let status = job.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let find = |kind: &str| conditions.iter().find(|c| c.type_ == kind && c.status == "True");
        let label = |key: &str| job.labels().get(key);
        let spec = job.spec.clone().unwrap_or_default();
        Some(Self {
            name: job.metadata.name.clone()?,
            uid: job.metadata.uid.clone()?,
            owner: controller_of(&job.metadata),
            stage: label(names::STAGE).and_then(|name| Stage::ALL.into_iter().find(|stage| stage.name() == name)),
            attempt: label(names::ATTEMPT).and_then(|number| number.parse().ok()),
            config_map: config_map_of(spec.template.spec.as_ref()),
            pods: spec.completions.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            suspended: spec.suspend.unwrap_or(false) || find("Suspended").is_some(),
            started: status.start_time.map(|time| time.0),
            complete: find("Complete").map(since),
            failing: find("FailureTarget").or_else(|| find("Failed")).map(|condition| JobFailure {
                at: since(condition),
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            }),
            deleting: job.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        })
    }
}

fn config_map_of(pod: Option<&PodSpec>) -> Option<String> {
    pod?.volumes.iter().flatten().find_map(|volume| volume.config_map.as_ref()).map(|map| map.name.clone())
}

fn since(condition: &JobCondition) -> Timestamp {
    condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// An object that is applied as a whole: its text, to be compared with the wanted one.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Name of the object.
    pub name: String,
    /// The uid of its controller.
    pub owner: Option<String>,
    /// The object.
    pub json: Json,
}

impl Applied {
    /// Keeps the parts of an object that are compared.
    fn of<K: serde::Serialize + kube::Resource>(object: &K) -> Option<Self> {
        let name = object.meta().name.clone()?;
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "ownerReferences"));
        }
        Some(Self { name, owner: controller_of(object.meta()), json: Json::from(&value) })
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceFacts(pub Applied);

impl Facts for ServiceFacts {
    type Object = Service;

    fn of(service: &Service) -> Option<Self> {
        Applied::of(service).map(Self)
    }
}

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyFacts(pub Applied);

impl Facts for PolicyFacts {
    type Object = NetworkPolicy;

    fn of(policy: &NetworkPolicy) -> Option<Self> {
        Applied::of(policy).map(Self)
    }
}

/// A ConfigMap. It is immutable and named by its content, so name and owner are enough.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigMapFacts {
    /// Name of the ConfigMap.
    pub name: String,
    /// The uid of its controller.
    pub owner: Option<String>,
}

impl Facts for ConfigMapFacts {
    type Object = ConfigMap;

    fn of(map: &ConfigMap) -> Option<Self> {
        Some(Self { name: map.metadata.name.clone()?, owner: controller_of(&map.metadata) })
    }
}

/// Whether `found` has everything that `wanted` has; it may have more, as the defaults that an API server adds.
pub fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|found| contains(found, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| contains(found, wanted))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn object_with_server_defaults_contains_the_wanted_one() {
        let found = json!({"spec": {"a": 1, "default": true}, "list": [{"x": 1, "y": 2}]});
        assert!(contains(&found, &json!({"spec": {"a": 1}, "list": [{"x": 1}]})));
        assert!(!contains(&found, &json!({"spec": {"a": 2}})));
        assert!(!contains(&found, &json!({"list": []})));
        assert!(!contains(&found, &json!({"more": 1})));
    }

    fn pod(more: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "r-pretrain-1-1-abcde", "uid": "u",
                "labels": {"batch.kubernetes.io/job-name": "r-pretrain-1", "batch.kubernetes.io/job-completion-index": "1"}},
            "spec": {"nodeName": "n", "containers": []},
        });
        for (key, value) in more.as_object().unwrap() {
            for (field, value) in value.as_object().unwrap() {
                pod[key][field] = value.clone();
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn terminated_pod_keeps_disruption_and_termination_message() {
        let pod = pod(&json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:02:00Z", "deletionGracePeriodSeconds": 120},
            "status": {"phase": "Failed", "podIP": "10.0.0.1",
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "m", "lastTransitionTime": "2026-01-01T00:00:01Z"}],
                "containerStatuses": [{"name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 85, "reason": "Error", "finishedAt": "2026-01-01T00:00:05Z",
                        "message": "{\"code\":85,\"reason\":\"Preempted\",\"checkpoint\":{\"step\":7,\"uri\":\"s3://b/c\"}}"}}}]},
        }));
        let facts = PodFacts::of(&pod).unwrap();
        assert_eq!((facts.index, facts.job.as_str(), facts.node.as_deref()), (1, "r-pretrain-1", Some("n")));
        assert_eq!(facts.deleting.unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(facts.disrupted.unwrap().reason, "EvictionByEvictionAPI");
        let ended = facts.ended.unwrap();
        assert_eq!((ended.code, ended.message.checkpoint.unwrap().step), (Some(ExitCode::Preempted), 7));
    }

    /// A queue or a user resumes the Job; its controller resets the start time later, for a large Job much later.
    #[test]
    fn resumed_job_counts_as_suspended_until_its_controller_has_noticed() {
        let job = |suspend: bool, condition: &str| -> JobFacts {
            let condition = json!({"type": "Suspended", "status": condition});
            let status = json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [condition]});
            let job = json!({"metadata": {"name": "j", "uid": "u"}, "status": status,
                "spec": {"suspend": suspend, "completions": 2, "selector": {}, "template": {}}});
            JobFacts::of(&serde_json::from_value(job).unwrap()).unwrap()
        };
        assert!(job(true, "False").suspended && job(true, "True").suspended);
        assert!(job(false, "True").suspended);
        assert!(!job(false, "False").suspended);
    }

    #[test]
    fn evicted_pod_has_ended_without_an_exit_code() {
        let pod = pod(&json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "disk is full"}}));
        let ended = PodFacts::of(&pod).unwrap().ended.unwrap();
        let (code, reason, message) = (ended.code, ended.reason.as_str(), ended.message.message.as_str());
        assert_eq!((code, reason, message), (None, "Evicted", "disk is full"));
    }

    /// The kubelet evicts a pod that exceeds its own limit or volume without a disruption; its container may even have had
    /// time to write a checkpoint.
    #[test]
    fn pod_evicted_for_its_own_storage_is_no_preemption() {
        let terminated = json!({"exitCode": 85, "reason": "Error", "finishedAt": "2026-01-01T00:00:05Z",
            "message": "{\"code\":85,\"reason\":\"Preempted\",\"checkpoint\":{\"step\":7,\"uri\":\"s3://b/c\"}}"});
        let status = |conditions: Value| {
            json!({"status": {"phase": "Failed", "reason": "Evicted",
                "message": "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
                "conditions": conditions,
                "containerStatuses": [{"name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": terminated}}]}})
        };
        let ended = PodFacts::of(&pod(&status(json!([])))).unwrap().ended.unwrap();
        assert_eq!((ended.code, ended.reason.as_str(), ended.message.reason), (None, "Evicted", None));
        assert!(ended.message.message.starts_with("Pod ephemeral local storage"), "{}", ended.message.message);
        assert_eq!(ended.message.checkpoint.unwrap().step, 7);
        assert_eq!(ended.at.unwrap().to_string(), "2026-01-01T00:00:05Z");
        // Evicted because its node is short of storage.
        let disrupted = json!([{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]);
        let ended = PodFacts::of(&pod(&status(disrupted))).unwrap().ended.unwrap();
        assert_eq!(ended.code, Some(ExitCode::Preempted));
    }

    #[test]
    fn killed_pod_keeps_the_memory_limit_that_applied() {
        let killed = |record: Option<&str>, limits: Value| {
            let mut pod = pod(&json!({
                "spec": {"containers": [{"name": "trainer", "resources": {"limits": limits}}]},
                "status": {"containerStatuses": [{"name": "trainer", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]},
            }));
            pod.metadata.annotations = record.map(|record| [(LIMIT_RANGER.to_owned(), record.to_owned())].into());
            PodFacts::of(&pod).unwrap().memory_limit.map(|limit| (limit.quantity, limit.by_limit_range))
        };
        let limit = |by_limit_range| Some(("2Gi".to_owned(), by_limit_range));
        assert_eq!(killed(None, json!({"memory": "2Gi"})), limit(false));
        let all = "LimitRanger plugin set: cpu, memory request for container trainer; cpu, memory limit for container trainer";
        assert_eq!(killed(Some(all), json!({"memory": "2Gi"})), limit(true));
        let other = "LimitRanger plugin set: memory request for container trainer; cpu limit for container trainer";
        assert_eq!(killed(Some(other), json!({"memory": "2Gi"})), limit(false));
        assert_eq!(killed(None, json!({})), None);
    }

    #[test]
    fn pod_without_uid_or_index_is_skipped() {
        let mut without = pod(&json!({}));
        without.metadata.uid = None;
        assert_eq!(PodFacts::of(&without), None);
        let mut without = pod(&json!({}));
        without.metadata.labels.as_mut().unwrap().remove(names::COMPLETION_INDEX);
        assert_eq!(PodFacts::of(&without), None);
    }

    #[test]
    fn exit_code_outside_a_byte_is_a_crash() {
        assert_eq!([exit_code(0), exit_code(137), exit_code(-1)].map(ExitCode::code), [0, 137, 255]);
    }
}
