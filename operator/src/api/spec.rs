//! The part of a run's `spec` that is not its recipe: how a cluster runs it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use simsiam_recipe::rules::Rule;
use simsiam_recipe::schema;

use super::duration;
use super::patterns::{LABEL, LABEL_TEXT, NAME, NAME_TEXT};
use super::workers::Workers;

/// How a cluster runs a recipe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules)]
pub struct ClusterSpec {
    /// The trainer's image. Default: the operator's --trainer-image. A change takes effect with the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// When nodes pull the image. Default: IfNotPresent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with credentials for the image registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<NamedReference>,
    /// The pods of multi-process stages. A change takes effect with the next attempt.
    pub workers: Workers,
    /// What happens when an attempt ends before its stage is done.
    pub restart_policy: RestartPolicy,
    /// Seconds that pods have after SIGTERM to write a checkpoint. Default: 120.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
    /// The pods' priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// The Kueue LocalQueue in which each Job of the run waits for quota. Default: no queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub queue_name: Option<String>,
    /// The Kueue WorkloadPriorityClass of each Job: its place in the queue, and which workloads it may pre-empt.
    /// Default: that of the pods' priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub workload_priority_class_name: Option<String>,
    /// The controller that reconciles this run. The operator ignores runs with a value other than
    /// simsiam.dev/operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub managed_by: Option<String>,
    /// Stops the pods after a checkpoint, and starts none until this is false again.
    pub suspend: bool,
    /// How long the run is kept after it has ended, such as 24h; then it is deleted with its pods. Its output is kept.
    /// Default: forever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ttl: Option<String>,
    /// How long the pods of the run may run in total, such as 72h; then the run fails. Time in a queue, in scheduling
    /// and in suspension does not count. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub active_deadline: Option<String>,
}

/// This operator in `managedBy`.
pub const MANAGER: &str = "simsiam.dev/operator";
const GRACE_SECONDS: u32 = 120;

impl ClusterSpec {
    /// The fields of an invalid spec that can be read each by itself; the others have their defaults. So a run in progress
    /// can still be suspended, and ends at its deadline.
    pub fn salvaged(spec: &Value) -> Self {
        let mut spec = spec.clone();
        if let Some(policy) = spec.get_mut("restartPolicy") {
            *policy = readable::<RestartPolicy>(policy);
        }
        serde_json::from_value(readable::<Self>(&spec)).unwrap_or_default()
    }

    /// Whether another controller reconciles this run.
    pub fn has_other_manager(&self) -> bool {
        self.managed_by.as_ref().is_some_and(|name| name != MANAGER)
    }

    /// `terminationGracePeriodSeconds`, or its default.
    pub fn grace_seconds(&self) -> u32 {
        self.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS)
    }

    /// `ttl` as a duration.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl.as_deref().and_then(duration::parse)
    }

    /// `activeDeadline` as a duration.
    pub fn active_deadline(&self) -> Option<Duration> {
        self.active_deadline.as_deref().and_then(duration::parse)
    }
}

/// The fields of an object that can be read as fields of `T`, whatever the others are.
fn readable<T: DeserializeOwned>(object: &Value) -> Value {
    let is_readable = |key: &String, value: &Value| serde_json::from_value::<T>(json!({key: value})).is_ok();
    let fields = object.as_object().into_iter().flatten().filter(|(key, value)| is_readable(key, value));
    Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// When nodes pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum ImagePullPolicy {
    /// Whenever a pod starts.
    Always,
    /// If it is not on the node.
    IfNotPresent,
    /// Never: it must be on the node.
    Never,
}

/// A reference to an object of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain)]
pub struct NamedReference {
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// What happens when an attempt ends before its stage is done. Crashes and lost peers count against maxRestarts;
/// pre-emptions and lost nodes count against maxPreemptions, gangs that could not be scheduled against maxUnscheduled. A
/// newer checkpoint resets the counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = restart_rules)]
pub struct RestartPolicy {
    /// Restarts after crashes, without a newer checkpoint, before the run fails.
    pub max_restarts: u32,
    /// Restarts after pre-emptions and lost nodes, without a newer checkpoint, before the run fails.
    pub max_preemptions: u32,
    /// Retries of gangs that could not be scheduled, without a newer checkpoint, before the run fails. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unscheduled: Option<u32>,
    /// How long the ranks of a node may make no progress while they train before they are considered hung and restarted;
    /// three times as long in the first step, in checkpoints and in evaluations.
    #[schemars(length(max = 32))]
    pub stall_timeout: String,
    /// How long an attempt's pods may wait to be scheduled, or to start while their image or a Secret is missing. A gang
    /// that cannot be scheduled is deleted, so that it does not hold GPUs that others need, and retried later. If an
    /// image or Secret is missing, the run fails if none of its attempts has run before; otherwise the attempt is
    /// restarted and counted.
    #[schemars(length(max = 32))]
    pub schedule_timeout: String,
    /// How long a scheduled pod may take until its container runs: pulling the image, mounting volumes, connecting the pod
    /// to the network. Then the attempt is restarted, and the restart is counted.
    #[schemars(length(max = 32))]
    pub start_timeout: String,
    /// How long running pods wait for each other.
    #[schemars(length(max = 32))]
    pub rendezvous_timeout: String,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            max_preemptions: 20,
            max_unscheduled: None,
            stall_timeout: "10m".into(),
            schedule_timeout: "10m".into(),
            start_timeout: "20m".into(),
            rendezvous_timeout: "10m".into(),
        }
    }
}

impl RestartPolicy {
    fn duration(text: &str) -> Duration {
        duration::parse(text).unwrap_or(Duration::from_secs(600))
    }

    /// `stallTimeout`.
    pub fn stall(&self) -> Duration {
        Self::duration(&self.stall_timeout)
    }

    /// `startTimeout`.
    pub fn start(&self) -> Duration {
        Self::duration(&self.start_timeout)
    }

    /// `scheduleTimeout`.
    pub fn schedule(&self) -> Duration {
        Self::duration(&self.schedule_timeout)
    }

    /// `rendezvousTimeout`.
    pub fn rendezvous(&self) -> Duration {
        Self::duration(&self.rendezvous_timeout)
    }
}

/// The volume with the local copies of remote images: one of these; by default one that is deleted with the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = cache_rules)]
pub struct CacheVolume {
    /// A directory of the node, which outlives attempts; it must be writable by the pods' group.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub host_path: Option<String>,
    /// A persistent volume claim that all pods can mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub persistent_volume_claim: Option<String>,
}

const TIMES: &str = "self >= 0 && self <= 100000";
const TIMES_TEXT: &str = "must be between 0 and 100000";

/// Rules of the fields of [`ClusterSpec`].
pub const CLUSTER: &[Rule] = &[
    Rule::on("image", "self.matches('^[^ ]+$')", "must be the name of an image"),
    Rule::on("priorityClassName", NAME, NAME_TEXT),
    Rule::on("queueName", LABEL, LABEL_TEXT),
    Rule::on("workloadPriorityClassName", LABEL, LABEL_TEXT),
    Rule::on("terminationGracePeriodSeconds", "self >= 30 && self <= 86400", "must be between 30 and 86400"),
    Rule::on("ttl", duration::PATTERN, duration::TEXT),
    Rule::on("activeDeadline", duration::POSITIVE, duration::POSITIVE_TEXT),
];

const RESTART: &[Rule] = &[
    Rule::on("maxRestarts", TIMES, TIMES_TEXT),
    Rule::on("maxPreemptions", TIMES, TIMES_TEXT),
    Rule::on("maxUnscheduled", TIMES, TIMES_TEXT),
    Rule::on("stallTimeout", duration::POSITIVE, duration::POSITIVE_TEXT),
    Rule::on("scheduleTimeout", duration::POSITIVE, duration::POSITIVE_TEXT),
    Rule::on("startTimeout", duration::POSITIVE, duration::POSITIVE_TEXT),
    Rule::on("rendezvousTimeout", duration::POSITIVE, duration::POSITIVE_TEXT),
];

const CACHE_VOLUME: &[Rule] = &[
    Rule::on("hostPath", "self.startsWith('/') && !self.contains('..')", "must be an absolute path"),
    Rule::on("persistentVolumeClaim", NAME, NAME_TEXT),
    Rule::needs(
        ".hostPath",
        "!has(self.hostPath) || !has(self.persistentVolumeClaim)",
        "give either hostPath or persistentVolumeClaim",
    ),
];

fn rules(schema: &mut schemars::Schema) {
    simsiam_recipe::rules::attach(schema, CLUSTER);
}

fn restart_rules(schema: &mut schemars::Schema) {
    simsiam_recipe::rules::attach(schema, RESTART);
}

fn cache_rules(schema: &mut schemars::Schema) {
    simsiam_recipe::rules::attach(schema, CACHE_VOLUME);
}
