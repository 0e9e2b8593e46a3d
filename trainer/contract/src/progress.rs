//! What a running agent reports at `/progress`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lenient::{open_enum, or_default};
use crate::result::StageResult;

open_enum! {
    /// What a rank is doing, so that a watchdog knows how long a silence is normal.
    RankPhase {
        /// Connecting to its peers.
        Rendezvous = "rendezvous",
        /// Listing the data, reading the checkpoint, running the first step.
        Starting = "starting",
        /// Running optimiser steps.
        Training = "training",
        /// Waiting for a checkpoint.
        Checkpointing = "checkpointing",
        /// Running kNN or another evaluation.
        Evaluating = "evaluating",
    }
}

/// The document served at `/progress`: the state of the stage in progress, as rank 0 reported it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Name of the run.
    #[serde(deserialize_with = "or_default")]
    pub run: String,
    /// The stage in progress.
    #[serde(deserialize_with = "or_default")]
    pub stage: String,
    /// What rank 0 is doing.
    #[serde(deserialize_with = "or_default")]
    pub phase: Option<RankPhase>,
    /// Finished epochs.
    #[serde(deserialize_with = "or_default")]
    pub epoch: u64,
    /// Epochs of the stage.
    #[serde(deserialize_with = "or_default")]
    pub epochs: u64,
    /// Finished steps.
    #[serde(deserialize_with = "or_default")]
    pub step: u64,
    /// Steps of the stage.
    #[serde(deserialize_with = "or_default")]
    pub steps: u64,
    /// Mean loss of the last interval.
    #[serde(deserialize_with = "or_default")]
    pub loss: Option<f64>,
    /// Mean per-channel standard deviation of z/‖z‖.
    #[serde(deserialize_with = "or_default")]
    pub output_std: Option<f64>,
    /// 1/√dim, the value of `output_std` in a healthy run.
    #[serde(deserialize_with = "or_default")]
    pub healthy_std: Option<f64>,
    /// Images (two views each) per second over all ranks, smoothed.
    #[serde(deserialize_with = "or_default")]
    pub images_per_second: Option<f64>,
    /// The reported kNN accuracy in percent.
    #[serde(deserialize_with = "or_default")]
    pub knn_top1: Option<f64>,
    /// Best top-1 accuracy of the stage's classifier so far, in percent.
    #[serde(deserialize_with = "or_default")]
    pub linear_top1: Option<f64>,
    /// The latest value of each of the trainer's metrics, by its key (`docs/metrics.md`).
    #[serde(deserialize_with = "or_default")]
    pub metrics: BTreeMap<String, f64>,
    /// The last completed checkpoint.
    #[serde(deserialize_with = "or_default")]
    pub checkpoint: Option<Checkpoint>,
    /// The checkpoint that this attempt resumed from.
    #[serde(deserialize_with = "or_default")]
    pub resumed_from: Option<Checkpoint>,
    /// Estimated end of the stage, RFC 3339 in UTC.
    #[serde(deserialize_with = "or_default")]
    pub eta: Option<String>,
    /// Images that could not be read in this attempt and were replaced.
    #[serde(deserialize_with = "or_default")]
    pub corrupt: u64,
    /// The stage's results, once it is done.
    #[serde(deserialize_with = "or_default")]
    pub result: Option<StageResult>,
    /// Whether the ranks have been silent for more than half of what their watchdog allows.
    #[serde(deserialize_with = "or_default")]
    pub quiet: bool,
}

/// A checkpoint's step and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Finished steps.
    pub step: u64,
    /// Address of its folder.
    pub uri: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_with_unknown_or_unreadable_fields_keeps_the_rest() {
        let text =
            r#"{"stage": "pretrain", "phase": "defragmenting", "step": 7, "loss": "n/a", "gpus": [1], "eta": 12}"#;
        let progress: Progress = serde_json::from_str(text).unwrap();
        assert_eq!((progress.stage.as_str(), progress.step, progress.loss, progress.eta), ("pretrain", 7, None, None));
        assert_eq!(progress.phase, Some(RankPhase::Other("defragmenting".into())));
    }
}
