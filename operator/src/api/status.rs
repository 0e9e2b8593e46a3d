//! What the operator reports: the state of a run, and why.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simsiam_recipe::{Stage, schema};

/// The state of a run. Everything in it was observed, except for the attempt about to be created: its number is stored
/// first, so that no attempt is counted twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct Status {
    /// The generation of `spec` that this status is about.
    #[schemars(extend("format" = "int64"))]
    pub observed_generation: i64,
    /// The state of the run, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// The current stage, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The reason for the phase, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// The reason for the phase, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// The pod that the reason is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// The current attempt of the stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The stages that have started, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub stages: Vec<StageRecord>,
    /// Progress of the stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// The newest checkpoint of the current stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// Results of the finished stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// Restarts of attempts.
    pub restarts: Restarts,
    /// The nodes that the next attempts avoid, because they failed earlier ones: the newest three, for a day. They are used
    /// again if the pods cannot be scheduled without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub avoided_nodes: Vec<AvoidedNode>,
    /// The last value of the annotation simsiam.dev/retry; a new one reopens a failed run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub retry: Option<String>,
    /// The next attempt does not start before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub not_before: Option<Timestamp>,
    /// The pods of the current attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersStatus>,
    /// When the first attempt was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub start_time: Option<Timestamp>,
    /// When all pods of the current attempt began to run; absent while not all of them run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub active_since: Option<Timestamp>,
    /// Seconds during which all pods ran, in total before `activeSince`. `activeDeadline` limits the sum of both.
    pub active_seconds: u64,
    /// When the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub completion_time: Option<Timestamp>,
    /// The run's conditions: Succeeded, Failed, Suspended, PodsReady, Reconciled, and for tools that apply manifests Ready
    /// (the run has succeeded), Reconciling (it progresses without intervention) and Stalled (it needs
    /// intervention).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The schema of a time, whose format API servers check.
pub(super) struct Time;

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
    }
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum RunPhase {
    /// It has no pods, or not all its pods run.
    Pending,
    /// It waits for quota in a queue.
    Queued,
    /// Its pods run, and connect to each other, list the data or pack the images.
    Starting,
    /// It trains.
    Training,
    /// Training waits for a checkpoint.
    Checkpointing,
    /// Its features are evaluated.
    Evaluating,
    /// Weights or the report are being written.
    Exporting,
    /// The user suspended it.
    Suspended,
    /// Its ranks make no progress; their agent will stop them.
    Stalled,
    /// All its stages are done.
    Succeeded,
    /// It has failed permanently.
    Failed,
}

impl RunPhase {
    /// Every phase, in order.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Queued,
        Self::Starting,
        Self::Training,
        Self::Checkpointing,
        Self::Evaluating,
        Self::Exporting,
        Self::Suspended,
        Self::Stalled,
        Self::Succeeded,
        Self::Failed,
    ];

    /// The phase's name in the status and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Starting => "Starting",
            Self::Training => "Training",
            Self::Checkpointing => "Checkpointing",
            Self::Evaluating => "Evaluating",
            Self::Exporting => "Exporting",
            Self::Suspended => "Suspended",
            Self::Stalled => "Stalled",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Whether all pods of the run's attempt run.
    pub fn is_active(self) -> bool {
        match self {
            Self::Starting
            | Self::Training
            | Self::Checkpointing
            | Self::Evaluating
            | Self::Exporting
            | Self::Stalled => true,
            Self::Pending | Self::Queued | Self::Suspended | Self::Succeeded | Self::Failed => false,
        }
    }

    /// Whether the run has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// One attempt at a stage: one Job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct Attempt {
    /// Its number within the stage, from 1.
    pub number: u32,
    /// Its Job.
    #[schemars(length(max = 63))]
    pub job: String,
    /// Its state.
    pub state: AttemptState,
    /// The generation of `spec` from which it was created.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub generation: i64,
    /// The nodes that its pods avoid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub avoid_nodes: Vec<String>,
    /// When it started.
    #[schemars(with = "Time")]
    pub created: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub ended: Option<Timestamp>,
}

/// A node that failed an attempt for a reason of its own: it did not admit the pod, or could not start it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct AvoidedNode {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The reason, in one word, such as UnexpectedAdmissionError or FailedCreatePodSandBox.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// When it last failed an attempt.
    #[schemars(with = "Time")]
    pub since: Timestamp,
}

/// The state of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum AttemptState {
    /// Its Job is about to be created.
    Creating,
    /// Its Job exists.
    Active,
    /// It has ended; its pods are being deleted.
    Ended,
}

/// A stage that has started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct StageRecord {
    /// Name of the stage.
    pub name: Stage,
    /// Its state.
    pub state: StageState,
    /// Attempts so far.
    pub attempts: u32,
    /// When its first attempt started.
    #[schemars(with = "Time")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub finished: Option<Timestamp>,
}

/// The state of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum StageState {
    /// It is in progress.
    Active,
    /// It is done.
    Done,
    /// It failed permanently.
    Failed,
}

/// Progress of a stage, as its first pod reports it; at most a minute old while it trains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct ProgressStatus {
    /// Finished epochs.
    pub epoch: u64,
    /// Epochs of the stage.
    pub epochs: u64,
    /// Finished steps.
    pub step: u64,
    /// Steps of the stage.
    pub steps: u64,
    /// Mean loss of the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Mean per-channel standard deviation of the normalised output; near healthyStd in a healthy run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_std: Option<f64>,
    /// The value of outputStd in a healthy run: 1/√dim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_std: Option<f64>,
    /// Images per second over all ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// kNN accuracy so far, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_top1: Option<f64>,
    /// The classifier's best accuracy so far, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_top1: Option<f64>,
    /// Estimated end of the stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub eta: Option<Timestamp>,
    /// When the first pod last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub seen: Option<Timestamp>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct CheckpointStatus {
    /// Finished steps.
    pub step: u64,
    /// Its address.
    #[schemars(length(max = 2048))]
    pub uri: String,
}

/// Results of the finished stages; accuracies in percent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct Results {
    /// Loss at the end of pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Output std at the end of pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_std: Option<f64>,
    /// Images per second of the last pre-training attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// kNN top-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_top1: Option<f64>,
    /// Linear top-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_top1: Option<f64>,
    /// Linear top-5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_top5: Option<f64>,
    /// Fine-tuned top-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune_top1: Option<f64>,
    /// Fine-tuned top-5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune_top5: Option<f64>,
    /// How a result was measured, if not by the published protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub caveat: Option<String>,
    /// The checkpoint at the end of pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub checkpoint: Option<String>,
    /// SHA-256 of the pre-trained weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub weights_sha256: Option<String>,
    /// Files written for other programs, within the output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub exports: Vec<String>,
    /// The report's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub report: Option<String>,
}

/// Restarts of attempts: in the whole run, and since the newest checkpoint, to which the limits apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct Restarts {
    /// After crashes and lost peers.
    pub counted: u32,
    /// After pre-emptions and lost nodes.
    pub preempted: u32,
    /// Because not all pods could be scheduled.
    pub unscheduled: u32,
    /// Counted restarts since the newest checkpoint.
    pub counted_since_checkpoint: u32,
    /// Restarts after pre-emptions and lost nodes since the newest checkpoint.
    pub uncounted_since_checkpoint: u32,
    /// Restarts of gangs that could not be scheduled since the newest checkpoint.
    pub unscheduled_since_checkpoint: u32,
    /// The step of that checkpoint.
    pub checkpoint_step: u64,
}

impl Restarts {
    /// Resets the counts to which the limits apply.
    pub fn reset_since_checkpoint(&mut self) {
        self.counted_since_checkpoint = 0;
        self.uncounted_since_checkpoint = 0;
        self.unscheduled_since_checkpoint = 0;
    }
}

/// The pods of the current attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct WorkersStatus {
    /// Pods requested.
    pub nodes: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// GPUs of all pods.
    pub gpus: u32,
}

/// A condition, as in Kubernetes' own objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// `True` if the condition is met, `False` if not, `Unknown` if that cannot be determined.
    pub status: ConditionStatus,
    /// Why, in one word.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, in one sentence.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// When its status last changed.
    #[schemars(with = "Time")]
    pub last_transition_time: Timestamp,
    /// The generation of `spec` that it is about.
    #[schemars(extend("format" = "int64"))]
    pub observed_generation: i64,
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It is unknown.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_has_the_same_name_in_status_and_metrics() {
        for phase in RunPhase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
