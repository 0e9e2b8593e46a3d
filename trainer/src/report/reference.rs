//! A published curve of the `cifar10` recipe, to compare a run of that recipe with.
//!
//! Source: `sample_runs` of github.com/ahmdtaha/simsiam: ResNet-18 with the CIFAR stem, batch 512, lr 0.06, weight decay
//! 5e-4, cosine schedule, no blur, 800 epochs of 97 steps. It differs from the preset by an affine last batch norm in the
//! projector, biases in the linear layers, and CIFAR's mean and standard deviation.

use simsiam_recipe::{Ablation, Arch, Pretrain, Schedule, Stem};

use super::history::History;
use super::svg::{Chart, Series};
use crate::telemetry::metric_table::{KNN_TOP1, LOSS};

/// Mean loss of an epoch, by epoch.
pub const REFERENCE_LOSS: &[(f64, f64)] = &[
    (1.0, -0.292),
    (2.0, -0.473),
    (3.0, -0.500),
    (5.0, -0.521),
    (10.0, -0.551),
    (25.0, -0.611),
    (50.0, -0.778),
    (75.0, -0.837),
    (100.0, -0.847),
    (150.0, -0.858),
    (200.0, -0.866),
    (300.0, -0.867),
    (400.0, -0.875),
    (600.0, -0.907),
    (800.0, -0.945),
];

/// kNN accuracy in percent with [`K`] neighbours and [`TEMPERATURE`], by epoch.
pub const REFERENCE_KNN: &[(f64, f64)] = &[
    (25.0, 39.0),
    (50.0, 55.6),
    (75.0, 63.8),
    (100.0, 70.6),
    (150.0, 77.8),
    (200.0, 81.1),
    (300.0, 84.1),
    (400.0, 85.9),
    (600.0, 88.1),
    (800.0, 89.2),
];

/// Neighbours of [`REFERENCE_KNN`].
pub const K: u32 = 200;
/// Temperature of [`REFERENCE_KNN`].
pub const TEMPERATURE: f64 = 0.1;
/// Optimiser steps of an epoch: 50,000 images in batches of 512.
pub const STEPS_PER_EPOCH: u64 = 97;

/// Whether a run has the settings of the published curve and as many images; other runs have other curves.
pub fn is_comparable(pretrain: &Pretrain, history: &History) -> bool {
    let steps = history.training.last().map(|point| (point.value.steps, point.value.epochs));
    let recipe = pretrain.arch == Arch::Resnet18
        && pretrain.stem == Stem::Cifar
        && pretrain.base_width == 64
        && pretrain.ablation == Ablation::None
        && pretrain.alternation.is_none()
        && pretrain.accumulate == 1
        && pretrain.warmup_epochs == 0
        && pretrain.schedule != Schedule::Constant
        && (pretrain.epochs, pretrain.batch_size) == (800, 512)
        && (pretrain.dim, pretrain.pred_dim, pretrain.projector.layers) == (2048, 512, 2)
        && pretrain.projector_hidden_dim() == 2048
        && (pretrain.peak_lr() - 0.06).abs() < 1e-9
        && (pretrain.weight_decay - 5e-4).abs() < 1e-9
        && (pretrain.augment.crop_size, pretrain.augment.blur_prob) == (32, 0.0);
    recipe && steps.is_some_and(|(steps, epochs)| steps == epochs * STEPS_PER_EPOCH)
}

/// The value of a curve at `epoch`, on the straight line between its neighbours; `None` outside of its range.
pub fn at(curve: &[(f64, f64)], epoch: f64) -> Option<f64> {
    let after = curve.iter().position(|point| point.0 >= epoch)?;
    let (x1, y1) = curve[after];
    if x1 == epoch {
        return Some(y1);
    }
    let (x0, y0) = curve[after.checked_sub(1)?];
    Some(y0 + (y1 - y0) * (epoch - x0) / (x1 - x0))
}

/// Adds the published curve to the charts of a comparable run, as far as the run itself went.
pub fn draw(charts: &mut [Chart], pretrain: &Pretrain, history: &History) {
    if !is_comparable(pretrain, history) {
        return;
    }
    let until = history.training.last().map_or(0.0, |point| point.epoch);
    let has_protocol =
        history.knn.iter().flat_map(|point| &point.value).any(|score| is_protocol(score.k, score.temperature));
    for (metric, curve) in [(LOSS, REFERENCE_LOSS), (KNN_TOP1, REFERENCE_KNN)] {
        let title = metric.curve.as_ref().map_or("", |curve| curve.chart);
        let Some(chart) = charts.iter_mut().find(|chart| chart.title == title) else { continue };
        let mut points: Vec<_> = curve.iter().copied().filter(|point| point.0 < until).collect();
        points.extend(at(curve, until).map(|value| (until, value)));
        if points.is_empty() || chart.series.is_empty() || (metric.key == KNN_TOP1.key && !has_protocol) {
            continue;
        }
        let name = if metric.key == KNN_TOP1.key { "published run, k=200, T=0.1" } else { "published run" };
        chart.series.push(Series::reference(name, points));
        chart.note.push_str(" Dashed: a published run of this recipe (ahmdtaha/simsiam); see docs/what-is-normal.md.");
    }
}

/// Whether a kNN evaluation uses the protocol of [`REFERENCE_KNN`].
pub fn is_protocol(k: u32, temperature: f64) -> bool {
    k == K && (temperature - TEMPERATURE).abs() < 1e-9
}
