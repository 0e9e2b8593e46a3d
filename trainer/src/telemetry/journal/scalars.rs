//! The scalars of a record, by TensorBoard's tags.

use super::record::{Measurement, Record};
use crate::telemetry::encoder_kind::EncoderKind;
use crate::telemetry::metric::RecordKind;
use crate::telemetry::metric_table;
use crate::telemetry::values::Values;

/// The tag of the finished epochs of pre-training.
const EPOCH: &str = "pretrain/epoch";

/// The tags of pre-training's intervals, which are measured in the order of their steps.
pub fn training_tags() -> impl Iterator<Item = &'static str> {
    metric_table::of_record(RecordKind::Training).filter_map(|metric| metric.tag).chain([EPOCH])
}

/// The step of a record's scalars: pre-training counts optimiser steps, and so does the kNN of its checkpoints; a
/// classifier's training counts epochs.
pub fn step(record: &Record) -> u64 {
    match record.what {
        Measurement::Linear { .. } => record.epoch as u64,
        _ => record.step,
    }
}

/// A record's tags and values, as TensorBoard and trackers show them; none of a start and of a checkpoint.
pub fn scalars(record: &Record) -> Vec<(String, f64)> {
    // Tags have no spaces: "linear untrained".
    let stage = &record.stage.replace(' ', "_");
    match &record.what {
        Measurement::Start | Measurement::Checkpoint { .. } => Vec::new(),
        // A classifier is logged by epoch: its steps are not those of pre-training, which use the same axis.
        Measurement::Training(_) if stage != "pretrain" => Vec::new(),
        Measurement::Training(training) => {
            let epoch = (EPOCH.to_owned(), record.epoch);
            std::iter::once(epoch).chain(tagged(RecordKind::Training, &training.values, "")).collect()
        }
        Measurement::Knn { features, scores } => {
            let tag = metric_table::KNN_TOP1.tag.unwrap_or_default();
            let tag = match features {
                EncoderKind::Trained => tag.to_owned(),
                other => tag.replacen('/', &format!("/{other}/"), 1),
            };
            let first = scores.first().map(|score| (tag.clone(), score.top1));
            let each = scores.iter().map(|s| (format!("{tag}_k{}_T{}", s.k, s.temperature), s.top1));
            first.into_iter().chain(each).collect()
        }
        Measurement::Linear { values, .. } => tagged(RecordKind::Linear, values, &format!("{stage}/")).collect(),
    }
}

/// The tags and values of a record's metrics.
fn tagged(kind: RecordKind, values: &Values, prefix: &str) -> impl Iterator<Item = (String, f64)> {
    metric_table::of_record(kind)
        .filter_map(move |metric| Some((format!("{prefix}{}", metric.tag?), values.get(metric.key)?)))
}
