//! The figures of a run that the rules evaluate, extracted from its history and its recipe. What was not measured, or is not
//! finite, is absent.

use std::collections::BTreeMap;

use simsiam_recipe::{Ablation, Pretrain};

use crate::report::history::{History, Point};
use crate::report::reference;
use crate::telemetry::journal::Training;
use crate::telemetry::metric::Metric;
use crate::telemetry::metric_table as metrics;

/// Figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The last loss; it may be NaN.
    pub loss: Option<f64>,
    /// Mean loss of each epoch so far, the last one perhaps unfinished.
    pub epoch_loss: Vec<f64>,
    /// Whether the loss is the negative cosine similarity, within −1 and 1.
    pub is_cosine: bool,
    /// The last output std over the healthy one, 1/√dim.
    pub std_share: Option<f64>,
    /// Effective rank of the projections, in the order of measurement.
    pub effective_rank: Vec<f64>,
    /// The last area under the cumulative explained-variance curve of the projections, 0.5 to 1.
    pub explained_variance_auc: Option<f64>,
    /// Share of the time that training waited for data, 0 to 1.
    pub data_wait: Option<f64>,
    /// Optimiser steps of the whole run.
    pub steps: Option<u64>,
    /// kNN accuracy of the first protocol in percent, by epoch.
    pub knn: Vec<f64>,
    /// The same of the untrained encoder.
    pub untrained: Option<f64>,
    /// Settings of the optimiser.
    pub settings: Option<Settings>,
    /// A published run of the same recipe, if there is one.
    pub published: Option<Published>,
}

/// Settings of the optimiser that the rules evaluate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Images of a step.
    pub batch: u32,
    /// Images that batch norm sees: those of a micro-batch.
    pub normalised: u32,
    /// Base learning rate, per 256 images.
    pub lr: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: u32,
}

/// The run and a published run of its recipe, after the same number of epochs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// The epochs.
    pub epoch: f64,
    /// Mean loss of the epoch, of this run and of the published one.
    pub loss: [f64; 2],
    /// kNN accuracy in percent, of this run and of the published one, with the epochs of that evaluation.
    pub knn: Option<(f64, [f64; 2])>,
}

impl Figures {
    /// The figures of a run.
    pub fn of(pretrain: Option<&Pretrain>, history: &History) -> Self {
        let training = &history.training;
        let last = |metric: &Metric| training.iter().rev().find_map(|point| point.value.get(metric));
        let finite = |metric: &Metric| last(metric).filter(|value| value.is_finite());
        let healthy = finite(&metrics::OUTPUT_STD_HEALTHY).filter(|healthy| *healthy > 0.0);
        let ranks = training.iter().filter_map(|point| point.value.get(&metrics::EFFECTIVE_RANK));
        let first = |scores: &Vec<simsiam_contract::KnnScore>| scores.first().map(|score| score.top1);
        Self {
            loss: last(&metrics::LOSS),
            epoch_loss: epoch_means(training, &metrics::LOSS),
            is_cosine: pretrain.is_none_or(|pretrain| pretrain.ablation != Ablation::CrossEntropy),
            std_share: finite(&metrics::OUTPUT_STD).zip(healthy).map(|(std, healthy)| std / healthy),
            effective_rank: ranks.filter(|rank| rank.is_finite()).collect(),
            explained_variance_auc: finite(&metrics::EXPLAINED_VARIANCE_AUC),
            data_wait: data_wait(training),
            steps: training.last().map(|point| point.value.steps),
            knn: history.knn.iter().filter_map(|p| first(&p.value)).filter(|top1| top1.is_finite()).collect(),
            untrained: history.untrained.as_ref().and_then(first).filter(|top1| top1.is_finite()),
            settings: pretrain.map(|pretrain| Settings {
                batch: pretrain.batch_size,
                normalised: pretrain.batch_size / pretrain.accumulate.max(1),
                lr: pretrain.lr,
                warmup_epochs: pretrain.warmup_epochs,
            }),
            published: pretrain.and_then(|pretrain| published(pretrain, history)),
        }
    }
}

/// Mean of a metric in each epoch, without values that are not finite.
fn epoch_means(training: &[Point<Training>], metric: &Metric) -> Vec<f64> {
    let mut epochs = BTreeMap::<u64, (f64, u32)>::new();
    for point in training {
        let Some(value) = point.value.get(metric).filter(|value| value.is_finite()) else { continue };
        // A point's epoch is that of its interval's end, so 1.0 belongs to the first epoch.
        let (sum, count) = epochs.entry(point.epoch.ceil() as u64).or_default();
        *sum += value;
        *count += 1;
    }
    epochs.into_values().map(|(sum, count)| sum / f64::from(count)).collect()
}

/// Mean share of waiting, without the first interval: nothing is loaded ahead of it.
fn data_wait(training: &[Point<Training>]) -> Option<f64> {
    let shares: Vec<_> = training.iter().filter_map(|point| point.value.get(&metrics::DATA_WAIT)).collect();
    let warm = shares.get(1..)?;
    let shares: Vec<_> = warm.iter().copied().filter(|share| share.is_finite()).collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

fn published(pretrain: &Pretrain, history: &History) -> Option<Published> {
    if !reference::is_comparable(pretrain, history) {
        return None;
    }
    let epoch = history.training.last()?.epoch.floor();
    let in_epoch = |p: &&Point<Training>| p.epoch > epoch - 1.0 && p.epoch <= epoch;
    let losses = history.training.iter().filter(in_epoch).filter_map(|p| p.value.get(&metrics::LOSS));
    let losses: Vec<_> = losses.filter(|loss| loss.is_finite()).collect();
    if losses.is_empty() {
        return None;
    }
    let knn = history.knn.iter().rev().find_map(|point| {
        let score = point.value.iter().find(|score| reference::is_protocol(score.k, score.temperature))?;
        let published = reference::at(reference::REFERENCE_KNN, point.epoch)?;
        score.top1.is_finite().then_some((point.epoch, [score.top1, published]))
    });
    let loss = losses.iter().sum::<f64>() / losses.len() as f64;
    Some(Published { epoch, loss: [loss, reference::at(reference::REFERENCE_LOSS, epoch)?], knn })
}
