//! Which curves a history has.

use super::history::{History, Judged, Point};
use super::svg::{Chart, Series};
use crate::telemetry::journal::Training;

/// The charts of a run, in order; a chart without points says why in its note.
pub fn charts(history: &History) -> Vec<Chart> {
    let mut charts = vec![loss(history), output_std(history), accuracy(history)];
    if history.training.iter().any(|p| p.value.effective_rank.is_some()) {
        let points = history.training.iter().filter_map(|p| Some((p.epoch, p.value.effective_rank?))).collect();
        charts.push(Chart {
            title: "Effective rank".into(),
            note: "How many directions the projections of one batch use, once an epoch. A fall towards 1 is collapse."
                .into(),
            y: "dimensions".into(),
            from_zero: true,
            series: vec![Series::line("effective rank", points)],
            ..epochs()
        });
    }
    charts.push(Chart {
        title: "Learning rate".into(),
        note: "As used: base rate × batch size ÷ 256.".into(),
        y: "learning rate".into(),
        from_zero: true,
        series: vec![
            Series::line("encoder", training(history, |t| t.lr_encoder.unwrap_or(f64::NAN))),
            Series::line("predictor", training(history, |t| t.lr_predictor.unwrap_or(f64::NAN))),
        ],
        ..epochs()
    });
    charts.push(Chart {
        title: "Throughput".into(),
        note: "Over all ranks; an image is two views.".into(),
        y: "images/s".into(),
        from_zero: true,
        series: vec![Series::line("images/s", training(history, |t| t.images_per_second))],
        ..epochs()
    });
    charts.push(Chart {
        title: "Waiting for data".into(),
        note: "Share of the time that training waited for images. Near 0 the loader keeps up.".into(),
        y: "% of the time".into(),
        from_zero: true,
        series: vec![Series::line("waiting", training(history, |t| 100.0 * t.data_wait))],
        ..epochs()
    });
    charts
}

fn loss(history: &History) -> Chart {
    Chart {
        title: "Loss".into(),
        note: "Negative cosine similarity of prediction and projection: −1 is agreement, 0 unrelated directions."
            .into(),
        y: "loss".into(),
        series: vec![Series::line("loss", training(history, |t| t.loss))],
        ..epochs()
    }
}

fn output_std(history: &History) -> Chart {
    Chart {
        title: "Output std".into(),
        note: "Mean per-channel standard deviation of z/‖z‖. Healthy is near the dashed line, 1/√dim; 0 is collapse."
            .into(),
        y: "std".into(),
        from_zero: true,
        series: vec![
            Series::line("output std", training(history, |t| t.output_std.unwrap_or(f64::NAN))),
            Series::reference("healthy, 1/√dim", training(history, |t| t.healthy_std.unwrap_or(f64::NAN))),
        ],
        ..epochs()
    }
}

fn accuracy(history: &History) -> Chart {
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
    let mut classifier = |name: &str, points: &[Point<Judged>]| {
        for (what, value) in [("top-1", (|j| j.top1) as fn(&Judged) -> f64), ("top-5", |j| j.top5)] {
            if !points.is_empty() {
                let points = points.iter().map(|p| (p.epoch, value(&p.value))).collect();
                series.push(Series::line(&format!("{name} {what}"), points));
            }
        }
    };
    classifier("linear", &history.linear);
    classifier("fine-tuned", &history.finetune);
    let note = if series.is_empty() {
        "Nothing has judged this run yet: give it spec.knn or spec.linear, and labelled images in dataset.val."
    } else {
        "On the validation images. kNN is over epochs of pre-training, a classifier over its own."
    };
    Chart { title: "Accuracy".into(), note: note.into(), y: "% right".into(), from_zero: true, series, ..epochs() }
}

fn epochs() -> Chart {
    Chart { x: "epoch".into(), ..Chart::default() }
}

fn training(history: &History, value: impl Fn(&Training) -> f64) -> Vec<(f64, f64)> {
    history.training.iter().map(|p| (p.epoch, value(&p.value))).collect()
}
