//! The journal's records as MLflow's metrics, and which of them a server already has.

use std::collections::{BTreeMap, BTreeSet};

use crate::telemetry::journal::Record;
use crate::telemetry::journal::scalars::{scalars, step, training_tags};

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The metric's name, which is TensorBoard's tag.
    pub key: String,
    /// Its value; MLflow has NaN, and the largest number in place of infinity.
    pub value: f64,
    /// When it was measured, in milliseconds since 1970.
    pub timestamp: i64,
    /// Finished optimiser steps of pre-training; of a classifier, finished epochs.
    pub step: u64,
}

/// The values of a record; none of a start and of a checkpoint.
pub fn points(record: &Record) -> impl Iterator<Item = Point> {
    let timestamp = record.time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
    let step = step(record);
    scalars(record).into_iter().map(move |(key, value)| Point { key, value: storable(value), timestamp, step })
}

/// The value as a server returns it.
fn storable(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value.clamp(f64::MIN, f64::MAX) }
}

/// What a server has of a run.
///
/// Pre-training that was killed repeats the steps after its last checkpoint, and the journal has both. A server keeps
/// the first: of an interval of training, only values beyond the last step that it has are new. Evaluations are
/// not repeated in the order of their steps (a classifier may be trained again), so of these the same value of the same
/// step is not new, and another one is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    last_steps: BTreeMap<String, u64>,
    evaluations: BTreeMap<String, BTreeSet<(u64, u64)>>,
}

impl Known {
    /// Whether a metric is one of training's intervals.
    pub fn is_training(key: &str) -> bool {
        training_tags().any(|tag| tag == key)
    }

    /// Notes that a server has this value; returns whether it was new.
    pub fn add(&mut self, key: &str, step: u64, value: f64) -> bool {
        if !Self::is_training(key) {
            return self.evaluations.entry(key.to_owned()).or_default().insert((step, storable(value).to_bits()));
        }
        match self.last_steps.get_mut(key) {
            Some(last) if *last >= step => false,
            Some(last) => {
                *last = step;
                true
            }
            None => self.last_steps.insert(key.to_owned(), step).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use simsiam_contract::KnnScore;

    use super::*;
    use crate::telemetry::EncoderKind;
    use crate::telemetry::journal::{Measurement, Training};
    use crate::telemetry::metric_table;

    fn record(step: u64, what: Measurement) -> Record {
        let time = "2026-01-05T03:12:00.250Z".into();
        Record { time, stage: "pretrain".into(), attempt: 1, step, epoch: 0.5, what }
    }

    #[test]
    fn points_of_records_have_tags_steps_and_milliseconds() {
        let mut training = Training::default();
        training.values.set(metric_table::LOSS.key, f64::NEG_INFINITY);
        let found: Vec<_> = points(&record(7, Measurement::Training(training))).collect();
        let timestamp = 1_767_582_720_250;
        let point = |key: &str, value| Point { key: key.into(), value, timestamp, step: 7 };
        assert_eq!(found, [point("pretrain/epoch", 0.5), point("pretrain/loss", f64::MIN)]);
        let scores = vec![KnnScore { k: 5, temperature: 0.07, top1: 40.0, caveat: None }];
        let keys = |what| points(&record(7, what)).map(|point| point.key).collect::<Vec<_>>();
        let knn = Measurement::Knn { features: EncoderKind::Trained, scores };
        assert_eq!(keys(knn), ["knn/top1", "knn/top1_k5_T0.07"]);
        assert_eq!(keys(Measurement::Start), [""; 0]);
    }

    #[test]
    fn names_of_all_metrics_are_allowed_by_mlflow() {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-. :/".contains(c);
        for tag in training_tags().chain(["knn/untrained/top1_k200_T0.1", "linear_untrained/best_top1"]) {
            assert!(tag.chars().all(allowed), "{tag}");
        }
    }

    #[test]
    fn repeated_steps_of_training_are_not_new() {
        let mut known = Known::default();
        let new: Vec<_> = [1, 11, 21, 15, 21, 31].map(|step| known.add("pretrain/loss", step, step as f64)).into();
        assert_eq!(new, [true, true, true, false, false, true]);
        assert!(known.add("throughput/images_per_second", 15, 1.0), "each metric has a last step of its own");
    }

    #[test]
    fn evaluation_is_new_unless_step_and_value_are_known() {
        let mut known = Known::default();
        let new: Vec<_> = [(1, 10.0), (2, 20.0), (1, 10.0), (1, 11.0), (2, f64::NAN), (2, f64::NAN)]
            .map(|(epoch, top1)| known.add("linear/top1", epoch, top1))
            .into();
        assert_eq!(new, [true, true, false, true, true, false]);
    }
}
