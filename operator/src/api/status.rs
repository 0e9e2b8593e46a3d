//! What the operator answers: where a run stands, and why.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simsiam_recipe::{Stage, schema};

/// Where a run stands. Everything here was observed, but for the attempt about to be created, whose number is written
/// down first so that no attempt is counted twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct Status {
    /// The generation of `spec` that this answers.
    #[schemars(extend("format" = "int64"))]
    pub observed_generation: i64,
    /// In one word, where the run stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The stage under way, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// In one word, why the run stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// The same in a sentence.
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
    /// The stages that were begun, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub stages: Vec<StageRecord>,
    /// How far the stage is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The newest checkpoint of the stage under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// What finished stages found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// Restarts of attempts.
    pub restarts: Restarts,
    /// No attempt is started before this time.
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
    /// When the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub completion_time: Option<Timestamp>,
    /// The run's conditions: Succeeded, Failed, Suspended, PodsReady, Reconciled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The schema of a time: API servers check its format.
pub(super) struct Time;

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum Phase {
    /// It has no pods, or not all of its pods run.
    Pending,
    /// It waits for quota in a queue.
    Queued,
    /// Its pods run and find one another, read the listing, or pack the images.
    Starting,
    /// It trains.
    Training,
    /// Training waits for a checkpoint.
    Checkpointing,
    /// Its features are judged.
    Evaluating,
    /// Weights or the report are written.
    Exporting,
    /// It was told to stand still.
    Suspended,
    /// Its ranks have been silent for long; their agent will end them.
    Stalled,
    /// All its stages are done.
    Succeeded,
    /// It has ended before that, for good.
    Failed,
}

impl Phase {
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

    /// Its name, as in the status and in metrics.
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

    /// Has the run ended for good?
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
    /// Where it stands.
    pub state: AttemptState,
    /// When it was decided on.
    #[schemars(with = "Time")]
    pub created: Timestamp,
    /// When it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub ended: Option<Timestamp>,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum AttemptState {
    /// Its Job is about to be created.
    Creating,
    /// Its Job was seen.
    Active,
    /// It was judged; its pods are being removed.
    Ended,
}

/// A stage that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct StageRecord {
    /// Its name.
    pub name: Stage,
    /// Where it stands.
    pub state: StageState,
    /// Attempts so far.
    pub attempts: u32,
    /// When its first attempt was decided on.
    #[schemars(with = "Time")]
    pub started: Timestamp,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub finished: Option<Timestamp>,
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum StageState {
    /// It is under way.
    Active,
    /// It is done.
    Done,
    /// It failed for good.
    Failed,
}

/// How far a stage is, as its first pod told; live, and never older than the last minute while it trains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct Progress {
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
    /// Mean per-channel standard deviation of the normalised output; near healthyStd while all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_std: Option<f64>,
    /// What outputStd is near while all is well: 1/√dim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_std: Option<f64>,
    /// Images a second over all ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// kNN accuracy so far, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_top1: Option<f64>,
    /// The classifier's best accuracy so far, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_top1: Option<f64>,
    /// When the stage should end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub eta: Option<Timestamp>,
    /// When the first pod was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub seen: Option<Timestamp>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct Checkpoint {
    /// Finished steps.
    pub step: u64,
    /// Its address.
    #[schemars(length(max = 2048))]
    pub uri: String,
}

/// What finished stages found; accuracies in percent.
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
    /// Images a second of the last pre-training attempt.
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
    /// How a figure was found, where that is not the published protocol.
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

/// Restarts of attempts: over the whole run, and since the newest checkpoint, which is what the limits bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct Restarts {
    /// After crashes and lost peers.
    pub counted: u32,
    /// After pre-emptions and lost nodes.
    pub preempted: u32,
    /// Since not all pods could be scheduled.
    pub unscheduled: u32,
    /// Counted ones since there was a newer checkpoint.
    pub counted_since_checkpoint: u32,
    /// The others since there was a newer checkpoint.
    pub uncounted_since_checkpoint: u32,
    /// The step of that checkpoint.
    pub checkpoint_step: u64,
}

/// The pods of the current attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::plain)]
pub struct WorkersStatus {
    /// Pods that were asked for.
    pub nodes: u32,
    /// Pods that run and answer.
    pub ready: u32,
    /// GPUs of all of them.
    pub gpus: u32,
}

/// A condition, as Kubernetes' own objects have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain)]
pub struct Condition {
    /// What it speaks of.
    #[serde(rename = "type")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// When its status last changed.
    #[schemars(with = "Time")]
    pub last_transition_time: Timestamp,
    /// The generation of `spec` it speaks of.
    #[schemars(extend("format" = "int64"))]
    pub observed_generation: i64,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = schema::plain_enum)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_called_the_same_in_the_status_and_in_metrics() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
