//! What the operator knows of an object: a fraction of it, so that many fit into memory.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodCondition, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Checkpoint, Json};
use crate::names;

/// What is known of an object of a run.
pub trait Facts: Clone + Send + Sync + 'static {
    /// The object.
    type Object;
    /// Takes what matters of it.
    fn of(object: &Self::Object) -> Self;
    /// What is kept of it once it is gone; `None` forgets it.
    fn gone(&self) -> Option<Self> {
        None
    }
}

/// A pod of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its Job's name.
    pub job: String,
    /// Its Job's uid.
    pub owner: String,
    /// Its index in the Job.
    pub index: u32,
    /// Its node, once it is scheduled.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Is every container ready?
    pub ready: bool,
    /// Does its container run?
    pub running: bool,
    /// Why it is not scheduled, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// Why its container does not start: reason and message.
    pub waiting: Option<(String, String)>,
    /// How its container ended.
    pub ended: Option<Ended>,
    /// When it was disrupted, and why: reason and message of the condition.
    pub disrupted: Option<(Timestamp, String, String)>,
    /// When its deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// When its grace period ends.
    pub deadline: Option<Timestamp>,
    /// The object is no more.
    pub is_gone: bool,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// The kubelet's word, such as OOMKilled.
    pub reason: String,
    /// When.
    pub at: Option<Timestamp>,
    /// The trainer's own last words.
    pub word: LastWord,
}

/// The trainer's termination message.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastWord {
    /// The exit code in a word.
    pub reason: String,
    /// What happened, for the user.
    pub message: String,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The checkpoint the attempt began from.
    pub resumed_from: Option<Checkpoint>,
    /// Finished steps.
    pub step: u64,
    /// The stage's results.
    pub result: Option<Value>,
}

impl LastWord {
    fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self { message: text.to_owned(), ..Self::default() })
    }
}

/// Reasons of `waiting` that are the way to a start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

impl Facts for PodFacts {
    type Object = Pod;

    fn of(pod: &Pod) -> Self {
        let label = |key: &str| pod.labels().get(key).cloned().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let find = |kind: &str, value: &str| conditions.iter().find(|c| c.type_ == kind && c.status == value);
        let container = status.container_statuses.unwrap_or_default().into_iter().find(|c| c.name == names::CONTAINER);
        let state = container.as_ref().and_then(|c| c.state.clone()).unwrap_or_default();
        let terminated = state.terminated.map(|t| Ended {
            code: t.exit_code,
            reason: t.reason.unwrap_or_default(),
            at: t.finished_at.map(|time| time.0),
            word: LastWord::read(&t.message.unwrap_or_default()),
        });
        // A pod that the kubelet ended before its container began, or evicted, has no container to tell.
        let failed = status.phase.as_deref() == Some("Failed");
        let ended = terminated.or_else(|| {
            failed.then(|| Ended {
                code: -1,
                reason: status.reason.clone().unwrap_or_else(|| "PodFailed".into()),
                at: None,
                word: LastWord { message: status.message.clone().unwrap_or_default(), ..LastWord::default() },
            })
        });
        let deadline = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            job: label(names::JOB_NAME),
            owner: owner(&pod.metadata),
            index: label(names::COMPLETION_INDEX).parse().unwrap_or(0),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ip: status.pod_ip,
            ready: find("Ready", "True").is_some(),
            running: state.running.is_some(),
            unschedulable: find("PodScheduled", "False").map(|c| c.message.clone().unwrap_or_default()),
            waiting: state
                .waiting
                .map(|w| (w.reason.unwrap_or_default(), w.message.unwrap_or_default()))
                .filter(|(reason, _)| !STARTING.contains(&reason.as_str())),
            ended,
            disrupted: find("DisruptionTarget", "True").map(disruption),
            deleting: deadline.map(|time| time.checked_sub(jiff::SignedDuration::from_secs(grace)).unwrap_or(time)),
            deadline,
            is_gone: false,
        }
    }

    /// What it said must not be lost before its attempt was judged.
    fn gone(&self) -> Option<Self> {
        Some(Self { is_gone: true, running: false, ready: false, ..self.clone() })
    }
}

/// The uid of the controller of an object.
fn owner(metadata: &ObjectMeta) -> String {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).unwrap_or_default()
}

fn disruption(condition: &PodCondition) -> (Timestamp, String, String) {
    let at = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    (at, condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default())
}

/// An attempt's Job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its run's uid.
    pub owner: String,
    /// Pods that it asks for.
    pub pods: u32,
    /// Is it suspended, by a queue?
    pub suspended: bool,
    /// Since when its pods exist.
    pub started: Option<Timestamp>,
    /// When all its pods had succeeded.
    pub complete: Option<Timestamp>,
    /// When it was decided that it fails, and why: reason and message of the condition.
    pub failing: Option<(Timestamp, String, String)>,
    /// Is it being deleted?
    pub deleting: Option<Timestamp>,
}

impl Facts for JobFacts {
    type Object = Job;

    fn of(job: &Job) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let find = |kind: &str| conditions.iter().find(|c| c.type_ == kind && c.status == "True");
        let spec = job.spec.clone().unwrap_or_default();
        Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            owner: owner(&job.metadata),
            pods: spec.completions.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            suspended: spec.suspend.unwrap_or(false),
            started: status.start_time.map(|time| time.0),
            complete: find("Complete").map(since),
            failing: find("FailureTarget")
                .or_else(|| find("Failed"))
                .map(|c| (since(c), c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default())),
            deleting: job.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        }
    }
}

fn since(condition: &JobCondition) -> Timestamp {
    condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// An object that is applied as a whole: its text, to be compared with what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// The object.
    pub json: Json,
}

/// Which parts of an object are compared.
fn applied(name: String, object: &impl serde::Serialize) -> Applied {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "ownerReferences"));
    }
    Applied { name, json: Json::from(&value) }
}

impl Facts for Applied {
    type Object = Service;

    fn of(service: &Service) -> Self {
        applied(service.name_any(), service)
    }
}

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyFacts(pub Applied);

impl Facts for PolicyFacts {
    type Object = NetworkPolicy;

    fn of(policy: &NetworkPolicy) -> Self {
        Self(applied(policy.name_any(), policy))
    }
}

/// A ConfigMap: immutable and named by its content, so its name tells all.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigMapFacts {
    /// Its name.
    pub name: String,
}

impl Facts for ConfigMapFacts {
    type Object = ConfigMap;

    fn of(map: &ConfigMap) -> Self {
        Self { name: map.name_any() }
    }
}

/// Is everything that `wanted` says also said by `there`, which may say more?
pub fn says(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| there.get(key).is_some_and(|found| says(found, value)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| says(there, wanted))
        }
        _ => there == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_api_server_adds_is_no_difference() {
        let there = json!({"spec": {"a": 1, "default": true}, "list": [{"x": 1, "y": 2}]});
        assert!(says(&there, &json!({"spec": {"a": 1}, "list": [{"x": 1}]})));
        assert!(!says(&there, &json!({"spec": {"a": 2}})));
        assert!(!says(&there, &json!({"list": []})));
        assert!(!says(&there, &json!({"more": 1})));
    }

    #[test]
    fn a_pod_in_a_few_words() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "r-pretrain-1-1-abcde", "uid": "u", "deletionTimestamp": "2026-01-01T00:02:00Z",
                "deletionGracePeriodSeconds": 120,
                "labels": {"batch.kubernetes.io/job-name": "r-pretrain-1", "batch.kubernetes.io/job-completion-index": "1"}},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Failed", "podIP": "10.0.0.1",
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "m", "lastTransitionTime": "2026-01-01T00:00:01Z"}],
                "containerStatuses": [{"name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 85, "reason": "Error", "finishedAt": "2026-01-01T00:00:05Z",
                        "message": "{\"code\":85,\"reason\":\"Preempted\",\"checkpoint\":{\"step\":7,\"uri\":\"s3://b/c\"}}"}}}]},
        }))
        .unwrap();
        let facts = PodFacts::of(&pod);
        assert_eq!((facts.index, facts.job.as_str(), facts.node.as_deref()), (1, "r-pretrain-1", Some("n")));
        assert_eq!(facts.deleting.unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(facts.disrupted.unwrap().1, "EvictionByEvictionAPI");
        let ended = facts.ended.unwrap();
        assert_eq!((ended.code, ended.word.checkpoint.unwrap().step), (85, 7));
    }

    #[test]
    fn an_evicted_pod_has_ended_without_a_container() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"}, "status": {"phase": "Failed", "reason": "Evicted", "message": "disk is full"},
        }))
        .unwrap();
        let ended = PodFacts::of(&pod).ended.unwrap();
        assert_eq!((ended.code, ended.reason.as_str(), ended.word.message.as_str()), (-1, "Evicted", "disk is full"));
    }
}
