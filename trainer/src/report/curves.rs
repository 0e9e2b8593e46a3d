//! Which curves a history has.

use super::history::{ClassifierEpoch, History, Point};
use super::page::ClassifierSection;
use super::svg::{Chart, Series};
use crate::telemetry::journal::Training;

/// The charts of a run, in order; a chart without points says why in its note.
pub fn charts(history: &History) -> Vec<Chart> {
    let mut charts = vec![loss(history), output_std(history), knn(history)];
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
        "No kNN has judged this run yet: give it spec.knn, and labelled images in dataset.val."
    } else {
        "On the validation images, over epochs of pre-training."
    };
    Chart { title: "kNN accuracy".into(), note: note.into(), y: "% right".into(), from_zero: true, series, ..epochs() }
}

/// The sections of the classifiers that were trained.
pub fn classifiers(history: &History) -> Vec<ClassifierSection> {
    let linear = "One linear layer on the frozen backbone. Over its own epochs.";
    let finetune = "The whole network, trained on with labels. Over its own epochs.";
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

fn training(history: &History, value: impl Fn(&Training) -> f64) -> Vec<(f64, f64)> {
    history.training.iter().map(|p| (p.epoch, value(&p.value))).collect()
}
