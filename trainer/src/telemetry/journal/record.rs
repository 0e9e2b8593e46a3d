//! A line of the journal, and how events become lines.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};
use simsiam_contract::KnnScore;

use crate::telemetry::event::{Event, Step};

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it was made, RFC 3339 in UTC.
    pub time: String,
    /// The stage that made it.
    pub stage: String,
    /// The stage's attempt.
    pub attempt: u32,
    /// Finished optimiser steps of the stage; of a kNN those of the encoder that was judged.
    pub step: u64,
    /// Finished epochs: of pre-training, in other stages that train of those.
    pub epoch: f64,
    /// What was measured.
    #[serde(flatten)]
    pub what: What,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum What {
    /// Training begins after `step`: what earlier attempts noted beyond it is void.
    Start,
    /// An interval of training.
    Training(Training),
    /// A checkpoint was completed.
    Checkpoint {
        /// Its address.
        uri: String,
        /// From the snapshot to the manifest, in seconds.
        seconds: f64,
        /// Bytes of its files.
        bytes: u64,
    },
    /// kNN accuracy.
    Knn {
        /// Of which features: `trained`, `untrained` or `pixels`.
        features: String,
        /// One score a protocol; the first is the run's.
        scores: Vec<KnnScore>,
    },
    /// An epoch of training a classifier.
    Linear {
        /// Epochs in all.
        epochs: u64,
        /// Mean loss of the epoch.
        #[serde(deserialize_with = "or_nan")]
        loss: f64,
        /// Learning rate.
        #[serde(deserialize_with = "or_nan")]
        lr: f64,
        /// Accuracy on the validation images in percent.
        #[serde(deserialize_with = "or_nan")]
        top1: f64,
        /// Share of validation images with their class among the five likeliest, in percent.
        #[serde(deserialize_with = "or_nan")]
        top5: f64,
        /// Best `top1` so far.
        #[serde(deserialize_with = "or_nan")]
        best_top1: f64,
        /// How it was trained, where that is not the protocol.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caveat: Option<String>,
    },
}

/// An interval of training, means over the ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// Steps of the whole run.
    pub steps: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Mean loss of the interval; in pre-training within [−1, 1].
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// Mean per-channel standard deviation of z/‖z‖, in pre-training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_std: Option<f64>,
    /// 1/√dim, in pre-training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_std: Option<f64>,
    /// Effective rank of z, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rank: Option<f64>,
    /// Learning rate of the encoder, where it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_encoder: Option<f64>,
    /// Learning rate of the predictor, in pre-training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_predictor: Option<f64>,
    /// Images (two views each) a second over all ranks.
    pub images_per_second: f64,
    /// Share of the time that rank 0 waited for data, 0 to 1.
    pub data_wait: f64,
    /// Images replaced so far in this attempt, by rank 0.
    pub corrupt: u64,
}

/// JSON has no NaN: it is written as `null`.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Does the journal take this event?
pub fn is_measurement(event: &Event) -> bool {
    matches!(
        event,
        Event::Resumed { .. } | Event::Step(_) | Event::Checkpoint { .. } | Event::Knn { .. } | Event::Linear { .. }
    )
}

/// Makes records of events; it remembers what an event does not say.
#[derive(Debug)]
pub struct RecordBuilder {
    stage: String,
    attempt: u32,
    started: bool,
    epochs_a_step: f64,
}

impl RecordBuilder {
    /// Of a stage's attempt.
    pub fn new(stage: &str, attempt: u32) -> Self {
        Self { stage: stage.to_owned(), attempt, started: false, epochs_a_step: 0.0 }
    }

    /// The records of one event: none for what is no measurement, a start before the first one of training.
    pub fn records(&mut self, time: SystemTime, event: &Event) -> Vec<Record> {
        match event {
            Event::Resumed { step, .. } => {
                self.started = true;
                vec![self.record(time, *step, 0.0, What::Start)]
            }
            Event::Step(step) => {
                self.epochs_a_step = step.epochs as f64 / step.steps.max(1) as f64;
                let mut records = Vec::new();
                if !std::mem::replace(&mut self.started, true) {
                    records.push(self.record(time, 0, 0.0, What::Start));
                }
                let epoch = step.step as f64 * self.epochs_a_step;
                records.push(self.record(time, step.step, epoch, What::Training(training(step))));
                records
            }
            Event::Checkpoint { step, uri, seconds, bytes } => {
                let what = What::Checkpoint { uri: uri.clone(), seconds: *seconds, bytes: *bytes };
                vec![self.record(time, *step, *step as f64 * self.epochs_a_step, what)]
            }
            Event::Knn { step, epoch, features, scores } => {
                let what = What::Knn { features: features.clone(), scores: scores.clone() };
                vec![self.record(time, *step, *epoch as f64, what)]
            }
            Event::Linear { stage, epoch, epochs, loss, lr, top1, top5, best_top1, caveat } => {
                let (epochs, loss, lr, caveat) = (*epochs, *loss, *lr, caveat.clone());
                let what = What::Linear { epochs, loss, lr, top1: *top1, top5: *top5, best_top1: *best_top1, caveat };
                vec![Record { stage: stage.clone(), ..self.record(time, 0, *epoch as f64, what) }]
            }
            _ => Vec::new(),
        }
    }

    fn record(&self, time: SystemTime, step: u64, epoch: f64, what: What) -> Record {
        let time = jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |t| format!("{t:.3}"));
        Record { time, stage: self.stage.clone(), attempt: self.attempt, step, epoch, what }
    }
}

fn training(step: &Step) -> Training {
    let seconds = step.seconds.max(1e-9);
    Training {
        steps: step.steps,
        epochs: step.epochs,
        loss: step.loss,
        output_std: step.output_std,
        healthy_std: step.healthy_std,
        effective_rank: step.effective_rank,
        lr_encoder: step.lr_encoder,
        lr_predictor: step.lr_predictor,
        images_per_second: step.images as f64 / seconds,
        data_wait: step.data_wait / seconds,
        corrupt: step.corrupt,
    }
}
