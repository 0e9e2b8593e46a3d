//! A line of the journal, and how an event becomes lines.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use simsiam_contract::KnnScore;

use crate::telemetry::encoder_kind::EncoderKind;
use crate::telemetry::event::{Event, Step};
use crate::telemetry::metric::{Metric, RecordKind};
use crate::telemetry::metric_table;
use crate::telemetry::values::Values;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its time, RFC 3339 in UTC.
    pub time: String,
    /// The stage that measured it.
    pub stage: String,
    /// The stage's attempt.
    pub attempt: u32,
    /// Finished optimiser steps of the stage; for kNN those of the evaluated encoder.
    pub step: u64,
    /// Finished epochs of pre-training, or of a classifier in the stages that train one.
    pub epoch: f64,
    /// What was measured.
    #[serde(flatten)]
    pub what: Measurement,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Measurement {
    /// Training begins after `step`: records of earlier attempts beyond it are void.
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
        /// Whose features.
        features: EncoderKind,
        /// One score per protocol; the first is the headline.
        scores: Vec<KnnScore>,
    },
    /// An epoch of training a classifier.
    Linear {
        /// Epochs in all.
        epochs: u64,
        /// How it was trained, if not by the published protocol.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caveat: Option<String>,
        /// The metrics of [`metric_table`], by their keys.
        #[serde(flatten)]
        values: Values,
    },
}

/// An interval of training, means over the ranks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// Steps of the whole run.
    pub steps: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Images that rank 0 replaced in this attempt.
    pub corrupt: u64,
    /// The metrics of [`metric_table`], by their keys.
    #[serde(flatten)]
    pub values: Values,
}

impl Training {
    /// The measurements of a step that the journal keeps.
    pub fn of(step: &Step) -> Self {
        let mut values = Values::default();
        for metric in metric_table::of_record(RecordKind::Training) {
            values.set(metric.key, metric.of_step(step));
        }
        Self { steps: step.steps, epochs: step.epochs, corrupt: step.corrupt, values }
    }

    /// The value of `metric`, if it was measured.
    pub fn get(&self, metric: &Metric) -> Option<f64> {
        self.values.get(metric.key)
    }
}

/// Whether the journal keeps this event.
pub fn is_measurement(event: &Event) -> bool {
    matches!(
        event,
        Event::Resumed { .. } | Event::Step(_) | Event::Checkpoint { .. } | Event::Knn { .. } | Event::Linear { .. }
    )
}

/// Builds records from events, with what an event does not say itself.
#[derive(Debug)]
pub struct RecordBuilder {
    stage: String,
    attempt: u32,
    started: bool,
    epochs_per_step: f64,
}

impl RecordBuilder {
    /// A builder for an attempt of a stage.
    pub fn new(stage: &str, attempt: u32) -> Self {
        Self { stage: stage.to_owned(), attempt, started: false, epochs_per_step: 0.0 }
    }

    /// The records of one event: none if it is not a measurement; the first step is preceded by a start.
    pub fn records(&mut self, time: SystemTime, event: &Event) -> Vec<Record> {
        match event {
            Event::Resumed { step, .. } => {
                self.started = true;
                vec![self.record(time, *step, 0.0, Measurement::Start)]
            }
            Event::Step(step) => {
                self.epochs_per_step = step.epochs as f64 / step.steps.max(1) as f64;
                let mut records = Vec::new();
                if !std::mem::replace(&mut self.started, true) {
                    records.push(self.record(time, 0, 0.0, Measurement::Start));
                }
                let epoch = step.step as f64 * self.epochs_per_step;
                records.push(self.record(time, step.step, epoch, Measurement::Training(Training::of(step))));
                records
            }
            Event::Checkpoint { step, uri, seconds, bytes } => {
                let what = Measurement::Checkpoint { uri: uri.clone(), seconds: *seconds, bytes: *bytes };
                vec![self.record(time, *step, *step as f64 * self.epochs_per_step, what)]
            }
            Event::Knn { step, epoch, features, scores } => {
                let what = Measurement::Knn { features: *features, scores: scores.clone() };
                vec![self.record(time, *step, *epoch as f64, what)]
            }
            Event::Linear { stage, epoch, epochs, caveat, values } => {
                let what = Measurement::Linear { epochs: *epochs, caveat: caveat.clone(), values: values.clone() };
                vec![Record { stage: stage.clone(), ..self.record(time, 0, *epoch as f64, what) }]
            }
            _ => Vec::new(),
        }
    }

    fn record(&self, time: SystemTime, step: u64, epoch: f64, what: Measurement) -> Record {
        let time = jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |t| format!("{t:.3}"));
        Record { time, stage: self.stage.clone(), attempt: self.attempt, step, epoch, what }
    }
}
