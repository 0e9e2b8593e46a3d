//! Which curves a history has.

use super::history::{ClassifierEpoch, History, Point};
use super::page::ClassifierSection;
use super::svg::{Chart, Series};
use crate::telemetry::{metric, metric_table};

/// The charts of a run, in order; a chart without points says why in its note.
pub fn charts(history: &History) -> Vec<Chart> {
    let mut charts: Vec<_> = metric_table::CHARTS.iter().filter_map(|chart| training(history, chart)).collect();
    // After loss and output std.
    charts.insert(2, knn(history));
    charts
}

/// A chart of training, as the metric table defines it; `None` if it is optional and nothing was measured.
fn training(history: &History, chart: &metric::Chart) -> Option<Chart> {
    let mut series = Vec::new();
    for metric in metric_table::ALL {
        let Some(curve) = metric.curve.as_ref().filter(|curve| curve.chart == chart.title) else { continue };
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
    if series.is_empty() {
        return None;
    }
    Some(Chart {
        title: chart.title.into(),
        note: chart.note.into(),
        y: chart.y.into(),
        from_zero: chart.from_zero,
        series,
        ..epochs()
    })
}

fn knn(history: &History) -> Chart {
    let mut series = Vec::new();
    if let Some(last) = history.knn.last() {
        for (i, score) in last.value.iter().enumerate() {
            let points = history.knn.iter().filter_map(|p| Some((p.epoch, p.value.get(i)?.top1))).collect();
            series.push(Series::line(&format!("kNN, k={}, T={}", score.k, score.temperature), points));
        }
        if let (Some(untrained), Some(first)) =
            (history.untrained.as_ref().and_then(|s| s.first()), history.knn.first())
        {
            let from = if history.knn.len() > 1 { first.epoch } else { 0.0 };
            let points = vec![(from, untrained.top1), (last.epoch, untrained.top1)];
            series.push(Series::reference("kNN, untrained encoder", points));
        }
    }
    let note = if series.is_empty() {
        "This run has no kNN evaluation yet: set spec.knn, and give dataset.val labelled images."
    } else {
        "On the validation images, over epochs of pre-training."
    };
    Chart { title: "kNN accuracy".into(), note: note.into(), y: "% right".into(), from_zero: true, series, ..epochs() }
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

fn classifier(points: &[Point<ClassifierEpoch>], untrained: &[Point<ClassifierEpoch>]) -> Vec<Chart> {
    let of = |points: &[Point<ClassifierEpoch>], value: fn(&ClassifierEpoch) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|p| (p.epoch, value(&p.value))).collect()
    };
    let mut accuracy =
        vec![Series::line("top-1", of(points, |j| j.top1)), Series::line("top-5", of(points, |j| j.top5))];
    if !untrained.is_empty() {
        accuracy.push(Series::reference("top-1, untrained encoder", of(untrained, |j| j.top1)));
    }
    vec![
        Chart {
            title: "Accuracy".into(),
            note: "On all validation images, after each epoch.".into(),
            y: "% right".into(),
            from_zero: true,
            series: accuracy,
            ..epochs()
        },
        Chart {
            title: "Loss".into(),
            note: "Mean cross-entropy on training images, at each epoch's end.".into(),
            y: "loss".into(),
            from_zero: true,
            series: vec![Series::line("loss", of(points, |j| j.loss))],
            ..epochs()
        },
        Chart {
            title: "Learning rate".into(),
            note: "The classifier's, as used: base rate × batch size ÷ 256.".into(),
            y: "learning rate".into(),
            from_zero: true,
            series: vec![Series::line("classifier", of(points, |j| j.lr))],
            ..epochs()
        },
    ]
}

fn epochs() -> Chart {
    Chart { x: "epoch".into(), ..Chart::default() }
}
