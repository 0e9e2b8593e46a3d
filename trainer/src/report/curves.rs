//! Which curves a history has.

use super::history::{ClassifierEpoch, History, Point};
use super::page::ClassifierSection;
use super::svg::{Chart, Series};
use crate::telemetry::metric::{self, Curve, Metric, RecordKind};
use crate::telemetry::metric_table;

/// The charts of pre-training, in order; a chart without points says why in its note.
pub fn charts(history: &History) -> Vec<Chart> {
    let charts = metric_table::CHARTS.iter();
    let charts = charts.filter_map(|chart| match chart.record {
        RecordKind::Training => training(history, chart),
        RecordKind::Knn => Some(knn(history, chart)),
        RecordKind::Linear => None,
    });
    charts.collect()
}

/// The metrics that a chart shows, each with its curve.
fn curves(chart: &metric::Chart) -> impl Iterator<Item = (&'static Metric, &'static Curve)> {
    let metrics = metric_table::of_record(chart.record).filter_map(|metric| Some((metric, metric.curve.as_ref()?)));
    metrics.filter(|(_, curve)| curve.chart == chart.title)
}

/// A chart of training; `None` if it is optional and nothing was measured.
fn training(history: &History, chart: &metric::Chart) -> Option<Chart> {
    let mut series = Vec::new();
    for (metric, curve) in curves(chart) {
        let points = history.training.iter().map(|point| {
            let value = point.value.get(metric);
            (point.epoch, value.map_or(f64::NAN, |value| curve.scale * value))
        });
        // A metric of an optional chart may have few values: its line connects them.
        let points: Vec<_> = points.filter(|(_, value)| !(chart.optional && value.is_nan())).collect();
        if !points.is_empty() || !chart.optional {
            let draw = if curve.reference { Series::reference } else { Series::line };
            series.push(draw(curve.name, points));
        }
    }
    (!series.is_empty()).then(|| drawn(chart, series))
}

/// The chart of kNN, with a line for each protocol.
fn knn(history: &History, chart: &metric::Chart) -> Chart {
    let mut series = Vec::new();
    for (_, curve) in curves(chart) {
        let Some(last) = history.knn.last() else { continue };
        for (i, score) in last.value.iter().enumerate() {
            let points = history.knn.iter().filter_map(|p| Some((p.epoch, p.value.get(i)?.top1))).collect();
            series.push(Series::line(&format!("{}, k={}, T={}", curve.name, score.k, score.temperature), points));
        }
        let untrained = history.untrained.as_ref().and_then(|scores| scores.first());
        if let (Some(name), Some(untrained), Some(first)) = (curve.untrained, untrained, history.knn.first()) {
            let from = if history.knn.len() > 1 { first.epoch } else { 0.0 };
            series.push(Series::reference(name, vec![(from, untrained.top1), (last.epoch, untrained.top1)]));
        }
    }
    let mut drawn = drawn(chart, series);
    let caveats = history.knn.last().into_iter().flat_map(|last| &last.value);
    for (score, caveat) in caveats.filter_map(|score| Some((score, score.caveat.as_ref()?))) {
        drawn.note = format!("{} Note on k={}: {caveat}.", drawn.note, score.k);
    }
    if drawn.series.is_empty() {
        drawn.note = "This run has no kNN evaluation yet: set spec.knn, and give labelled images in dataset.val or \
                      dataset.probe."
            .into();
    }
    drawn
}

/// The sections of the classifiers that were trained.
pub fn classifiers(history: &History) -> Vec<ClassifierSection> {
    let linear = "One linear layer on the frozen backbone. Over its own epochs.";
    let finetune = "The whole network, fine-tuned with labels. Over its own epochs.";
    let all = [
        ("linear", "Linear classification", linear, &history.linear, &history.linear_untrained),
        ("finetune", "Fine-tuning", finetune, &history.finetune, &Vec::new()),
    ];
    let trained = all.into_iter().filter(|(.., points, _)| !points.is_empty());
    trained
        .map(|(id, title, note, points, untrained)| {
            let caveat = points.last().and_then(|p| p.value.caveat.as_ref());
            ClassifierSection {
                id,
                title,
                note: caveat.map_or_else(|| note.to_owned(), |caveat| format!("{note} Note: {caveat}.")),
                charts: classifier(points, untrained),
            }
        })
        .collect()
}

/// The charts of a classifier's epochs.
fn classifier(points: &[Point<ClassifierEpoch>], untrained: &[Point<ClassifierEpoch>]) -> Vec<Chart> {
    let values = |points: &[Point<ClassifierEpoch>], metric: &Metric, scale: f64| -> Vec<(f64, f64)> {
        points.iter().map(|p| (p.epoch, scale * p.value.get(metric))).collect()
    };
    let charts = metric_table::CHARTS.iter().filter(|chart| chart.record == RecordKind::Linear);
    let charts = charts.map(|chart| {
        let mut series = Vec::new();
        let mut references = Vec::new();
        for (metric, curve) in curves(chart) {
            let draw = if curve.reference { Series::reference } else { Series::line };
            series.push(draw(curve.name, values(points, metric, curve.scale)));
            if let Some(name) = curve.untrained.filter(|_| !untrained.is_empty()) {
                references.push(Series::reference(name, values(untrained, metric, curve.scale)));
            }
        }
        series.append(&mut references);
        drawn(chart, series)
    });
    charts.collect()
}

/// A chart of the table with its lines, over epochs.
fn drawn(chart: &metric::Chart, series: Vec<Series>) -> Chart {
    Chart {
        title: chart.title.into(),
        note: chart.note.into(),
        x: "epoch".into(),
        y: chart.y.into(),
        from_zero: chart.from_zero,
        series,
    }
}
