//! The journals of all attempts as one history, as if the run had never been interrupted.

use simsiam_contract::KnnScore;
use simsiam_recipe::Stage;

use crate::telemetry::EncoderKind;
use crate::telemetry::journal::{Measurement, Record, Training};
use crate::telemetry::metric::Metric;
use crate::telemetry::values::Values;

/// What a run measured, in order.
#[derive(Debug, Default)]
pub struct History {
    /// Pre-training.
    pub training: Vec<Point<Training>>,
    /// kNN of the trained encoder.
    pub knn: Vec<Point<Vec<KnnScore>>>,
    /// kNN of the untrained encoder.
    pub untrained: Option<Vec<KnnScore>>,
    /// Linear classification.
    pub linear: Vec<Point<ClassifierEpoch>>,
    /// Linear classification on the encoder as it was initialised.
    pub linear_untrained: Vec<Point<ClassifierEpoch>>,
    /// Fine-tuning.
    pub finetune: Vec<Point<ClassifierEpoch>>,
    /// Number of pre-training attempts that left a journal.
    pub attempts: u32,
}

/// A measurement and when it was made.
#[derive(Clone, Debug)]
pub struct Point<T> {
    /// Finished steps of pre-training.
    pub step: u64,
    /// Finished epochs.
    pub epoch: f64,
    /// The measurement.
    pub value: T,
    /// Whether pre-training measured it, rather than a stage of its own.
    during_training: bool,
    attempt: u32,
}

/// An epoch of a classifier.
#[derive(Clone, Debug)]
pub struct ClassifierEpoch {
    /// What was measured.
    pub values: Values,
    /// How the training differs from the standard protocol, if it does.
    pub caveat: Option<String>,
}

impl ClassifierEpoch {
    /// The value of `metric`; NaN if it was not measured.
    pub fn get(&self, metric: &Metric) -> f64 {
        self.values.get(metric.key).unwrap_or(f64::NAN)
    }
}

impl History {
    /// Merges records, sorted by stage and attempt: a later attempt's measurements replace what earlier ones measured beyond
    /// the step at which it started.
    pub fn of(records: Vec<Record>) -> Self {
        let mut history = Self::default();
        for record in records {
            let (step, epoch, attempt) = (record.step, record.epoch, record.attempt);
            let during_training = record.stage == "pretrain";
            if during_training {
                history.attempts = history.attempts.max(attempt);
            }
            match record.what {
                Measurement::Start | Measurement::Training(_) if !during_training => {}
                Measurement::Start => {
                    history.training.retain(|p| p.step <= step);
                    history.knn.retain(|p| !p.during_training || p.step <= step);
                }
                Measurement::Training(value) => {
                    history.training.push(Point { step, epoch, value, during_training, attempt });
                }
                Measurement::Checkpoint { .. } => {}
                Measurement::Knn { features, scores } => match features {
                    EncoderKind::Untrained => history.untrained = Some(scores),
                    EncoderKind::Trained => {
                        history.knn.retain(|p| p.step != step);
                        history.knn.push(Point { step, epoch, value: scores, during_training, attempt });
                    }
                    EncoderKind::Pixels => {}
                },
                Measurement::Linear { caveat, values, .. } => {
                    let (stage, encoder) = EncoderKind::of_stage_name(&record.stage);
                    let points = match (stage.parse::<Stage>(), encoder) {
                        (Ok(Stage::Linear), EncoderKind::Trained) => &mut history.linear,
                        (Ok(Stage::Linear), EncoderKind::Untrained) => &mut history.linear_untrained,
                        (Ok(Stage::Finetune), EncoderKind::Trained) => &mut history.finetune,
                        _ => continue,
                    };
                    points.retain(|p| p.attempt == attempt || p.epoch < epoch);
                    let value = ClassifierEpoch { values, caveat };
                    points.push(Point { step, epoch, value, during_training, attempt });
                }
            }
        }
        history.knn.sort_by_key(|p| p.step);
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric_table;

    fn record(stage: &str, attempt: u32, step: u64, what: Measurement) -> Record {
        Record { time: String::new(), stage: stage.into(), attempt, step, epoch: step as f64 / 10.0, what }
    }

    fn training(loss: f64) -> Measurement {
        let mut training = Training { steps: 40, epochs: 4, ..Training::default() };
        training.values.set(metric_table::LOSS.key, loss);
        Measurement::Training(training)
    }

    fn knn(top1: f64) -> Measurement {
        Measurement::Knn {
            features: EncoderKind::Trained,
            scores: vec![KnnScore { k: 1, temperature: 0.1, top1, caveat: None }],
        }
    }

    fn linear(top1: f64) -> Measurement {
        let mut values = Values::default();
        values.set(metric_table::LINEAR_TOP1.key, top1);
        Measurement::Linear { epochs: 3, caveat: None, values }
    }

    #[test]
    fn later_attempt_replaces_repeated_steps() {
        let history = History::of(vec![
            record("knn", 1, 40, knn(9.0)),
            record("pretrain", 1, 0, Measurement::Start),
            record("pretrain", 1, 10, training(1.0)),
            record("pretrain", 1, 20, training(2.0)),
            record("pretrain", 1, 20, knn(2.0)),
            record("pretrain", 1, 30, training(3.0)),
            record("pretrain", 1, 30, knn(3.0)),
            record("pretrain", 2, 20, Measurement::Start),
            record("pretrain", 2, 30, training(30.0)),
            record("pretrain", 2, 40, training(40.0)),
        ]);
        let losses: Vec<_> =
            history.training.iter().map(|p| (p.step, p.value.get(&metric_table::LOSS).unwrap())).collect();
        assert_eq!(losses, [(10, 1.0), (20, 2.0), (30, 30.0), (40, 40.0)]);
        let knn: Vec<_> = history.knn.iter().map(|p| (p.step, p.value[0].top1)).collect();
        assert_eq!(knn, [(20, 2.0), (40, 9.0)], "the stage's own stays, what was lost goes");
        assert_eq!(history.attempts, 2);
    }

    #[test]
    fn classifier_trained_again_is_shown_once() {
        let history = History::of(vec![
            record("linear", 1, 10, linear(1.0)),
            record("linear", 1, 20, linear(2.0)),
            record("linear", 2, 20, linear(20.0)),
            record(&EncoderKind::Untrained.stage_name("linear"), 2, 30, linear(3.0)),
            record("linear", 2, 30, linear(30.0)),
        ]);
        let top1: Vec<_> = history.linear.iter().map(|p| p.value.get(&metric_table::LINEAR_TOP1)).collect();
        assert_eq!(top1, [1.0, 20.0, 30.0]);
        assert_eq!(
            history.linear_untrained.iter().map(|p| p.value.get(&metric_table::LINEAR_TOP1)).collect::<Vec<_>>(),
            [3.0]
        );
        assert!(history.finetune.is_empty());
    }

    #[test]
    fn history_of_no_records_is_empty() {
        assert!(History::of(Vec::new()).training.is_empty());
    }
}
