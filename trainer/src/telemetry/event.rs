//! Events: one JSON document per line, from a rank to its agent over a Unix socket.

use serde::{Deserialize, Serialize};
use simsiam_contract::{FailureReason, KnnScore, RankPhase, StageResult};

use super::encoder_kind::EncoderKind;
use super::values::Values;

/// A measurement of training over the steps since the previous one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Step {
    /// Finished steps of the run.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Epoch in progress, from 0.
    pub epoch: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Mean loss over the interval and the ranks: SimSiam's within [−1, 1], a cross-entropy (a classifier's, or an
    /// ablation's) above 0.
    pub loss: f64,
    /// Images of the interval, over all ranks; an image is two views in pre-training.
    pub images: u64,
    /// Wall time of the interval in seconds.
    pub seconds: f64,
    /// Wall time of each of the interval's steps in seconds.
    pub step_seconds: Vec<f64>,
    /// Part of it that this rank waited for data.
    pub data_wait: f64,
    /// How long gradients were still being reduced when all were computed, in seconds; of the steps that were timed.
    pub allreduce_seconds: Vec<f64>,
    /// Images that this rank replaced in this attempt because they could not be read.
    pub corrupt: u64,
    /// Bytes of GPU memory held by this rank, where there is a GPU.
    pub gpu_memory: Option<u64>,
    /// What only some kinds of training measure, by the keys of [`metric_table`](super::metric_table).
    #[serde(flatten)]
    pub values: Values,
}

impl Step {
    /// Wall time of the interval in seconds, above 0.
    pub fn duration(&self) -> f64 {
        self.seconds.max(1e-9)
    }

    /// Finished epochs of the whole run.
    pub fn finished_epochs(&self) -> u64 {
        self.step * self.epochs / self.steps.max(1)
    }
}

/// What a rank reports to its agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// The first event of a rank.
    Hello {
        /// Its global rank.
        rank: usize,
    },
    /// The number of this attempt at the stage; of rank 0.
    Attempt {
        /// The number, from 1.
        number: u32,
    },
    /// What the rank is doing now.
    Phase {
        /// The phase.
        phase: RankPhase,
    },
    /// Training continues from a checkpoint.
    Resumed {
        /// Finished steps.
        step: u64,
        /// The checkpoint.
        uri: String,
    },
    /// A sign of life of a rank whose steps are slow.
    Alive,
    /// A measurement. Rank 0's has the means over the ranks; the others' are signs of life.
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
    /// Training waited for a checkpoint.
    CheckpointStall {
        /// Duration of the wait.
        seconds: f64,
    },
    /// kNN accuracy.
    Knn {
        /// Finished epochs.
        epoch: u64,
        /// Finished optimiser steps.
        step: u64,
        /// Whose features.
        features: EncoderKind,
        /// One score per protocol; the first is the headline.
        scores: Vec<KnnScore>,
    },
    /// Accuracy of a classifier after an epoch of `linear` or `finetune`.
    Linear {
        /// The stage's name, with that of the encoder: see [`EncoderKind::stage_name`].
        stage: String,
        /// Finished epochs.
        epoch: u64,
        /// Epochs of the stage.
        epochs: u64,
        /// See [`ClassifierScore::caveat`](simsiam_contract::ClassifierScore::caveat).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caveat: Option<String>,
        /// What was measured, by the keys of [`metric_table`](super::metric_table).
        #[serde(flatten)]
        values: Values,
    },
    /// Progress of a long evaluation.
    Evaluated {
        /// Finished images.
        done: u64,
        /// Images in all.
        of: u64,
        /// What is being done.
        what: String,
    },
    /// The stage's results, the last event of rank 0.
    Done(Box<StageResult>),
    /// The last event of a rank that fails.
    Failed {
        /// Its exit code.
        code: u8,
        /// Why, in one word.
        reason: FailureReason,
        /// One line for the user.
        message: String,
        /// The field or file that the message is about.
        subject: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_a_step_round_trips_through_json() {
        let mut step = Step { step: 3, loss: -0.5, step_seconds: vec![0.25], gpu_memory: Some(7), ..Step::default() };
        step.values.set("outputStd", 0.03);
        let event = Event::Step(step);
        let line = serde_json::to_string(&event).unwrap();
        assert!(line.starts_with(r#"{"event":"step","#), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
