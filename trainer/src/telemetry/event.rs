//! Events: one JSON document a line, from a rank to its agent over a Unix socket.

use serde::{Deserialize, Serialize};
use simsiam_contract::{FailureReason, KnnScore, RankPhase, StageResult};

/// A measurement of training, over the steps since the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Step {
    /// Finished steps of the run.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Epoch under way, from 0.
    pub epoch: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Mean loss over the interval and the ranks: SimSiam's within [−1, 1], a cross-entropy (a classifier's, or an
    /// ablation's) above 0.
    pub loss: f64,
    /// Mean per-channel standard deviation of z/‖z‖ at the last step, mean over the ranks; in pre-training.
    pub output_std: Option<f64>,
    /// 1/√dim, what `output_std` is near while all is well.
    pub healthy_std: Option<f64>,
    /// Effective rank of z at the last step, where it was computed.
    pub effective_rank: Option<f64>,
    /// Learning rate of the backbone (and projector), where it is trained.
    pub lr_encoder: Option<f64>,
    /// Learning rate of the predictor, in pre-training.
    pub lr_predictor: Option<f64>,
    /// Learning rate of the classifier, where there is one.
    pub lr_classifier: Option<f64>,
    /// Images of the interval, over all ranks; an image is two views in pre-training.
    pub images: u64,
    /// Wall time of the interval in seconds.
    pub seconds: f64,
    /// Wall time of each of the interval's steps in seconds.
    pub step_seconds: Vec<f64>,
    /// Of it, time this rank waited for data.
    pub data_wait: f64,
    /// Of the steps that were timed, how long gradients were still being reduced when all were computed, in seconds.
    pub allreduce_seconds: Vec<f64>,
    /// FLOP/s of the network over what the devices can do at most, 0 to 1; where that is known, in pre-training.
    pub model_flops_utilization: Option<f64>,
    /// Images that could not be read so far in this attempt and were replaced, by this rank.
    pub corrupt: u64,
    /// Bytes of GPU memory held by this rank, where there is a GPU.
    pub gpu_memory: Option<u64>,
}

/// What a rank reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// The first word of a rank.
    Hello {
        /// Its global rank.
        rank: usize,
    },
    /// What it is at now.
    Phase {
        /// The phase.
        phase: RankPhase,
    },
    /// Training goes on from a checkpoint.
    Resumed {
        /// Finished steps.
        step: u64,
        /// The checkpoint.
        uri: String,
    },
    /// A sign of life of a rank whose steps are slow.
    Alive,
    /// A measurement; rank 0's carries the means over the ranks, the others' serve as signs of life.
    Step(Step),
    /// A checkpoint was completed.
    Checkpoint {
        /// Finished steps.
        step: u64,
        /// Its address.
        uri: String,
        /// From the snapshot to the manifest, in seconds.
        seconds: f64,
        /// Bytes of its files.
        bytes: u64,
    },
    /// Training stood still for a checkpoint.
    CheckpointStall {
        /// For so many seconds.
        seconds: f64,
    },
    /// kNN accuracy.
    Knn {
        /// Finished epochs.
        epoch: u64,
        /// Finished optimiser steps.
        step: u64,
        /// Of which features: `trained`, `untrained` or `pixels`.
        features: String,
        /// One score a protocol, the first is the one that tables show.
        scores: Vec<KnnScore>,
    },
    /// Accuracy of a classifier after an epoch of `linear` or `finetune`.
    Linear {
        /// The stage's name.
        stage: String,
        /// Finished epochs.
        epoch: u64,
        /// Epochs of the stage.
        epochs: u64,
        /// Mean cross-entropy of the epoch's last interval of training.
        loss: f64,
        /// The classifier's learning rate in that epoch.
        lr: f64,
        /// Share of validation images whose class came first, in percent.
        top1: f64,
        /// Share of validation images whose class is among the first five, in percent.
        top5: f64,
        /// The best top-1 so far.
        best_top1: f64,
        /// See [`ClassifierScore::caveat`](simsiam_contract::ClassifierScore::caveat).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caveat: Option<String>,
    },
    /// A long evaluation moves on.
    Evaluated {
        /// Images done.
        done: u64,
        /// Images in all.
        of: u64,
        /// Which.
        what: String,
    },
    /// The stage's results, the last word of rank 0.
    Done(Box<StageResult>),
    /// The last word of a rank that gives up.
    Failed {
        /// Its exit code.
        code: u8,
        /// Why, in one word.
        reason: FailureReason,
        /// One line for the user.
        message: String,
        /// The field or file it is about.
        subject: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_socket() {
        let event = Event::Step(Step { step: 3, loss: -0.5, step_seconds: vec![0.25], ..Step::default() });
        let line = serde_json::to_string(&event).unwrap();
        assert!(line.starts_with(r#"{"event":"step","#), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
