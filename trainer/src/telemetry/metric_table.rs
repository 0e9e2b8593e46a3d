//! The table of all metrics.
//!
//! To add one, add a row here and set its value where it is measured: `step.values.set(ROW.key, value)`. Prometheus,
//! the journal, TensorBoard, the report's charts and the table in `docs/metrics.md` follow from the row;
//! `UPDATE_GOLDEN=1 cargo test -p simsiam-trainer --lib metric_table` rewrites the documentation.

use super::encoder_kind::EncoderKind;
use super::event::{Event, Step};
use super::metric::{Chart, Curve, Kind, Metric, RecordKind, Series, ValueSource};

macro_rules! table {
    ($($(#[$meta:meta])* $name:ident = $metric:expr;)+) => {
        $($(#[$meta])* pub const $name: Metric = $metric;)+

        /// Every metric, in the order of the documentation.
        pub const ALL: &[&Metric] = &[$(&$name),+];
    };
}

/// A row with its key and unit alone; each gives its help.
const fn metric(key: &'static str, unit: &'static str, read: ValueSource) -> Metric {
    Metric { key, unit, help: "", series: None, read, record: None, tag: None, curve: None }
}

const fn series(name: &'static str, kind: Kind, label: Option<&'static str>) -> Option<Series> {
    Some(Series { name, kind, label })
}

const fn curve(chart: &'static str, name: &'static str) -> Curve {
    Curve { chart, name, scale: 1.0, reference: false, untrained: None }
}

const fn line(chart: &'static str, name: &'static str) -> Option<Curve> {
    Some(curve(chart, name))
}

const RATES: &str = "simsiam_learning_rate";
const RATES_HELP: &str = "Learning rate.";

table! {
    /// Time that gradients are reduced after backward.
    ALLREDUCE_SECONDS = Metric {
        help:
            "Time from the end of rank 0's backward pass until all gradients are reduced: the part of the all-reduce \
             that did not overlap with backward. Every step on CPUs; on GPUs the first ten and every hundredth.",
        series: series("simsiam_allreduce_seconds", Kind::LateHistogram(0.0001), None),
        ..metric("allreduceSeconds", "seconds", ValueSource::Steps(|step| &step.allreduce_seconds))
    };
    /// Duration of writing a checkpoint.
    CHECKPOINT_SECONDS = Metric {
        help: "From a checkpoint's snapshot to its manifest.",
        series: series("simsiam_checkpoint_seconds", Kind::Histogram(0.05), None),
        ..metric("checkpointSeconds", "seconds", ValueSource::Event(|_, event, emit| {
            if let Event::Checkpoint { seconds, .. } = event {
                emit("", *seconds);
            }
        }))
    };
    /// Time that training waits for a checkpoint.
    CHECKPOINT_STALL_SECONDS = Metric {
        help: "Time that training waited for a checkpoint.",
        series: series("simsiam_checkpoint_stall_seconds", Kind::Histogram(0.001), None),
        ..metric("checkpointStallSeconds", "seconds", ValueSource::Event(|_, event, emit| {
            if let Event::CheckpointStall { seconds } = event {
                emit("", *seconds);
            }
        }))
    };
    /// Step of the last checkpoint.
    CHECKPOINT_STEP = Metric {
        help: "Finished steps of the last completed checkpoint.",
        series: series("simsiam_checkpoint_step", Kind::Gauge, None),
        ..metric("checkpointStep", "steps", ValueSource::Event(|_, event, emit| {
            if let Event::Checkpoint { step, .. } = event {
                emit("", *step as f64);
            }
        }))
    };
    /// Replaced images.
    CORRUPT_IMAGES = Metric {
        help: "Images replaced in this attempt because they could not be read.",
        series: series("simsiam_corrupt_images", Kind::Gauge, Some("rank")),
        ..metric("corrupt", "images", ValueSource::EachRank(|step| Some(step.corrupt as f64)))
    };
    /// Time waited for data.
    DATA_WAIT_SECONDS = Metric {
        help: "Time that a rank waited for data in this attempt.",
        series: series("simsiam_data_wait_seconds_total", Kind::Counter, Some("rank")),
        // A counter refuses negative increments.
        ..metric("dataWaitSeconds", "seconds", ValueSource::EachRank(|step| Some(step.data_wait.max(0.0))))
    };
    /// Share of the time that rank 0 waited for data, 0 to 1.
    DATA_WAIT = Metric {
        help: "Share of the time that rank 0 waited for data, 0 to 1.",
        record: Some(RecordKind::Training),
        tag: Some("throughput/data_wait_share"),
        curve: Some(Curve { scale: 100.0, ..curve("Waiting for data", "waiting") }),
        ..metric("dataWait", "ratio", ValueSource::Step(|step| Some(step.data_wait / step.duration())))
    };
    /// Effective rank of z.
    EFFECTIVE_RANK = Metric {
        help: "Effective rank of the projections of rank 0's batch, once per epoch.",
        series: series("simsiam_effective_rank", Kind::Gauge, None),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/effective_rank"),
        curve: line("Effective rank", "effective rank"),
        ..metric("effectiveRank", "dimensions", ValueSource::Value)
    };
    /// Finished epochs.
    EPOCH = Metric {
        help: "Finished epochs.",
        series: series("simsiam_epoch", Kind::Gauge, None),
        ..metric("epoch", "epochs", ValueSource::Step(|step| Some(step.finished_epochs() as f64)))
    };
    /// Area under the cumulative explained-variance curve of z.
    EXPLAINED_VARIANCE_AUC = Metric {
        help:
            "Area under the cumulative explained-variance curve of the projections of rank 0's batch, once per epoch: \
             0.5 if all directions are used evenly, 1 if only one is.",
        series: series("simsiam_explained_variance_auc", Kind::LateGauge, None),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/explained_variance_auc"),
        curve: line("Explained variance", "AUC"),
        ..metric("explainedVarianceAuc", "ratio", ValueSource::Value)
    };
    /// GPU memory.
    GPU_MEMORY = Metric {
        help: "GPU memory that a rank holds.",
        series: series("simsiam_gpu_memory_bytes", Kind::Gauge, Some("rank")),
        ..metric("gpuMemory", "bytes", ValueSource::EachRank(|step| step.gpu_memory.map(|bytes| bytes as f64)))
    };
    /// Throughput of the last interval.
    IMAGES_PER_SECOND = Metric {
        help: "Images per second over the last interval and all ranks.",
        series: series("simsiam_images_per_second", Kind::Gauge, None),
        record: Some(RecordKind::Training),
        tag: Some("throughput/images_per_second"),
        curve: line("Throughput", "images/s"),
        ..metric("imagesPerSecond", "images/s", ValueSource::Step(|step| Some(step.images as f64 / step.duration())))
    };
    /// Images trained on.
    IMAGES = Metric {
        help: "Images trained on in this attempt, two views each, over all ranks.",
        series: series("simsiam_images_total", Kind::Counter, None),
        ..metric("images", "images", ValueSource::Step(|step| Some(step.images as f64)))
    };
    /// kNN accuracy of the trained encoder.
    KNN_TOP1 = Metric {
        help: "kNN top-1 accuracy in percent.",
        series: series("simsiam_knn_top1", Kind::Gauge, Some("protocol")),
        record: Some(RecordKind::Knn),
        tag: Some("knn/top1"),
        curve: Some(Curve { untrained: Some("kNN, untrained encoder"), ..curve("kNN accuracy", "kNN") }),
        ..metric("knnTop1", "percent", ValueSource::Event(|_, event, emit| {
            if let Event::Knn { features: EncoderKind::Trained, scores, .. } = event {
                for score in scores {
                    emit(&format!("k={},T={}", score.k, score.temperature), score.top1);
                }
            }
        }))
    };
    /// Learning rate of the backbone and projector.
    LR_ENCODER = Metric {
        help: RATES_HELP,
        series: series(RATES, Kind::Gauge, Some("group")),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/lr/encoder"),
        curve: line("Learning rate", "encoder"),
        ..metric("lrEncoder", "1", ValueSource::Labelled("encoder"))
    };
    /// Learning rate of the predictor.
    LR_PREDICTOR = Metric {
        help: RATES_HELP,
        series: series(RATES, Kind::Gauge, Some("group")),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/lr/predictor"),
        curve: line("Learning rate", "predictor"),
        ..metric("lrPredictor", "1", ValueSource::Labelled("predictor"))
    };
    /// Learning rate of the classifier.
    LR_CLASSIFIER = Metric {
        help: RATES_HELP,
        series: series(RATES, Kind::Gauge, Some("group")),
        ..metric("lrClassifier", "1", ValueSource::Labelled("classifier"))
    };
    /// Cross-entropy of a classifier.
    LINEAR_LOSS = Metric {
        help: "Mean cross-entropy of the stage's classifier on the training images of an epoch.",
        record: Some(RecordKind::Linear),
        tag: Some("loss"),
        curve: line("Loss", "loss"),
        ..metric("loss", "1", ValueSource::Epoch)
    };
    /// Learning rate of a classifier's epoch.
    LINEAR_LR = Metric {
        help: "Learning rate of the classifier in the epoch.",
        record: Some(RecordKind::Linear),
        tag: Some("lr"),
        curve: line("Learning rate", "classifier"),
        ..metric("lr", "1", ValueSource::Epoch)
    };
    /// Top-1 accuracy of a classifier.
    LINEAR_TOP1 = Metric {
        help: "Top-1 accuracy of the stage's classifier after its last epoch, in percent.",
        series: series("simsiam_linear_top1", Kind::Gauge, Some("stage")),
        record: Some(RecordKind::Linear),
        tag: Some("top1"),
        curve: Some(Curve { untrained: Some("top-1, untrained encoder"), ..curve("Accuracy", "top-1") }),
        ..metric("top1", "percent", ValueSource::Epoch)
    };
    /// Top-5 accuracy of a classifier.
    LINEAR_TOP5 = Metric {
        help: "Top-5 accuracy of the stage's classifier after its last epoch, in percent.",
        series: series("simsiam_linear_top5", Kind::Gauge, Some("stage")),
        record: Some(RecordKind::Linear),
        tag: Some("top5"),
        curve: line("Accuracy", "top-5"),
        ..metric("top5", "percent", ValueSource::Epoch)
    };
    /// Best top-1 accuracy of a classifier so far.
    LINEAR_BEST_TOP1 = Metric {
        help: "Best top-1 accuracy of the stage's classifier so far, in percent.",
        record: Some(RecordKind::Linear),
        tag: Some("best_top1"),
        ..metric("bestTop1", "percent", ValueSource::Epoch)
    };
    /// Mean loss.
    LOSS = Metric {
        help: "Mean loss over the last interval and all ranks: -1 to 1 in pre-training, above 0 for cross-entropy.",
        series: series("simsiam_loss", Kind::Gauge, None),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/loss"),
        curve: line("Loss", "loss"),
        ..metric("loss", "1", ValueSource::Step(|step| Some(step.loss)))
    };
    /// Model FLOP/s utilisation.
    MODEL_FLOPS_UTILIZATION = Metric {
        help: "FLOP/s of the network divided by the peak of the devices in this precision, 0 to 1.",
        series: series("simsiam_model_flops_utilization", Kind::LateGauge, None),
        ..metric("modelFlopsUtilization", "ratio", ValueSource::Value)
    };
    /// Standard deviation of the outputs.
    OUTPUT_STD = Metric {
        help: "Mean per-channel standard deviation of the l2-normalised projections; 0 is collapse.",
        series: series("simsiam_output_std", Kind::Gauge, None),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/output_std"),
        curve: line("Output std", "output std"),
        ..metric("outputStd", "1", ValueSource::Value)
    };
    /// Standard deviation of healthy outputs.
    OUTPUT_STD_HEALTHY = Metric {
        help: "1/sqrt(dim), the value of simsiam_output_std in a healthy run.",
        series: series("simsiam_output_std_healthy", Kind::Gauge, None),
        record: Some(RecordKind::Training),
        tag: Some("pretrain/output_std_healthy"),
        curve: Some(Curve { reference: true, ..curve("Output std", "healthy, 1/√dim") }),
        ..metric("healthyStd", "1", ValueSource::Value)
    };
    /// Finished steps.
    STEP = Metric {
        help: "Finished optimiser steps of the run.",
        series: series("simsiam_step", Kind::Gauge, None),
        ..metric("step", "steps", ValueSource::Event(|rank, event, emit| match event {
            Event::Resumed { step, .. } => emit("", *step as f64),
            Event::Step(Step { step, .. }) if rank == 0 => emit("", *step as f64),
            _ => {}
        }))
    };
    /// Duration of a step.
    STEP_SECONDS = Metric {
        help: "Wall time of an optimiser step.",
        series: series("simsiam_step_seconds", Kind::Histogram(0.01), None),
        ..metric("stepSeconds", "seconds", ValueSource::Steps(|step| &step.step_seconds))
    };
    /// Values that the tracker lacks.
    TRACK_PENDING = Metric {
        help: "Values that MLflow has not received yet; only of a run with spec.track.",
        series: series("simsiam_track_pending", Kind::LateGauge, None),
        ..metric("trackPending", "values", ValueSource::Agent)
    };
    /// Values that the tracker does not take.
    TRACK_REFUSED = Metric {
        help: "Values of this command that MLflow refused; only of a run with spec.track.",
        series: series("simsiam_track_refused", Kind::LateGauge, None),
        ..metric("trackRefused", "values", ValueSource::Agent)
    };
}

/// The metrics that records of this kind keep.
pub fn of_record(kind: RecordKind) -> impl Iterator<Item = &'static Metric> {
    ALL.iter().copied().filter(move |metric| metric.record == Some(kind))
}

/// The report's charts, in order.
pub const CHARTS: &[Chart] = &[
    Chart {
        record: RecordKind::Training,
        title: "Loss",
        note: "Negative cosine similarity of prediction and projection: −1 is agreement, 0 unrelated directions.",
        y: "loss",
        from_zero: false,
        optional: false,
    },
    Chart {
        record: RecordKind::Training,
        title: "Output std",
        note: "Mean per-channel standard deviation of z/‖z‖. Healthy is near the dashed line, 1/√dim; 0 is collapse.",
        y: "std",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Knn,
        title: "kNN accuracy",
        note: "On the validation images, over epochs of pre-training.",
        y: "% right",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Training,
        title: "Effective rank",
        note: "How many directions the projections of one batch use, once per epoch. A fall towards 1 is collapse.",
        y: "dimensions",
        from_zero: true,
        optional: true,
    },
    Chart {
        record: RecordKind::Training,
        title: "Explained variance",
        note: "Area under the cumulative explained-variance curve of the projections of one batch: 0.5 if all directions \
               are used evenly, 1 if only one is.",
        y: "AUC",
        from_zero: true,
        optional: true,
    },
    Chart {
        record: RecordKind::Training,
        title: "Learning rate",
        note: "As used: base rate × batch size ÷ 256.",
        y: "learning rate",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Training,
        title: "Throughput",
        note: "Over all ranks; an image is two views.",
        y: "images/s",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Training,
        title: "Waiting for data",
        note: "Share of the time that training waited for images. Near 0 the loader keeps up.",
        y: "% of the time",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Linear,
        title: "Accuracy",
        note: "On all validation images, after each epoch.",
        y: "% right",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Linear,
        title: "Loss",
        note: "Mean cross-entropy on training images, at each epoch's end.",
        y: "loss",
        from_zero: true,
        optional: false,
    },
    Chart {
        record: RecordKind::Linear,
        title: "Learning rate",
        note: "The classifier's, as used: base rate × batch size ÷ 256.",
        y: "learning rate",
        from_zero: true,
        optional: false,
    },
];

/// The tables of `docs/metrics.md`: every series, then every name in the journal and in TensorBoard.
pub fn documentation() -> String {
    let mut rows = std::collections::BTreeMap::new();
    for (series, help) in ALL.iter().filter_map(|metric| Some((metric.series.as_ref()?, metric.help))) {
        let label = series.label.map_or(String::new(), |label| format!("`{label}`"));
        rows.insert(series.name, format!("| `{}` | {} | {label} | {help} |\n", series.name, series.kind.name()));
    }
    let mut text = String::from("| name | type | labels | description |\n|---|---|---|---|\n");
    text.extend(rows.into_values());
    text += "\nThese values are in the journal, TensorBoard and `/progress`, grouped by kind of journal record:\n\n";
    text += "| kind | key | unit | TensorBoard | Prometheus | description |\n|---|---|---|---|---|---|\n";
    let code = |name: Option<&str>| name.map_or(String::new(), |name| format!("`{name}`"));
    for (kind, name) in [(RecordKind::Training, "training"), (RecordKind::Knn, "knn"), (RecordKind::Linear, "linear")] {
        for metric in of_record(kind) {
            let series = code(metric.series.as_ref().map(|series| series.name));
            let tag =
                metric.tag.map(|tag| if kind == RecordKind::Linear { format!("linear/{tag}") } else { tag.into() });
            let (key, unit, help) = (metric.key, metric.unit, metric.help);
            text += &format!("| `{name}` | `{key}` | {unit} | {} | {series} | {help} |\n", code(tag.as_deref()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metric_table_is_consistent() {
        // A classifier's epochs have keys of their own, all others share those of a step.
        let keys: BTreeSet<_> =
            ALL.iter().map(|metric| (metric.record == Some(RecordKind::Linear), metric.key)).collect();
        assert_eq!(keys.len(), ALL.len(), "keys are unique");
        for metric in ALL {
            assert!(metric.record.is_some() || metric.tag.is_none() && metric.curve.is_none(), "{}", metric.key);
            if let Some(curve) = &metric.curve {
                let charts = CHARTS.iter().filter(|chart| Some(chart.record) == metric.record);
                assert_eq!(charts.filter(|chart| chart.title == curve.chart).count(), 1, "{}", curve.chart);
            }
            for unit in ["seconds", "bytes"] {
                let named = metric.series.as_ref().is_some_and(|series| series.name.contains(unit));
                assert_eq!(metric.unit == unit, named, "the series of {} names its unit", metric.key);
            }
            assert!(!metric.help.is_empty(), "{}", metric.key);
            for other in ALL {
                if let (Some(one), Some(two)) = (&metric.series, &other.series)
                    && one.name == two.name
                {
                    assert_eq!((metric.help, one.kind, one.label), (other.help, two.kind, two.label));
                }
            }
        }
    }

    #[test]
    fn metric_table_matches_the_documentation() {
        const BEGIN: &str = "<!-- From trainer/src/telemetry/metric_table.rs -->\n";
        const END: &str = "<!-- End -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let expected = format!("{before}{BEGIN}{}{END}{after}", documentation());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &expected).unwrap();
        } else {
            assert!(
                page == expected,
                "docs/metrics.md differs: UPDATE_GOLDEN=1 cargo test -p simsiam-trainer --lib metric_table"
            );
        }
    }
}
