use simsiam_contract::KnnScore;
use simsiam_recipe::{Preset, Pretrain};

use super::figures::{Published, Settings};
use super::*;
use crate::report::history::History;
use crate::report::reference::{self, REFERENCE_KNN, REFERENCE_LOSS};
use crate::telemetry::EncoderKind;
use crate::telemetry::journal::{Measurement, Record, Training};
use crate::telemetry::metric::Metric;
use crate::telemetry::metric_table as metrics;

/// The verdict of the rule with this title; `None` if it has nothing to say.
fn verdict(title: &str, figures: &Figures) -> Option<Verdict> {
    assert!(rules::ALL.iter().any(|rule| rule.title == title), "{title}");
    let found = findings(figures).into_iter().find(|finding| finding.title == title);
    found.map(|finding| {
        assert!(finding.says.ends_with('.') && !finding.says.contains("NaN"), "{finding:?}");
        finding.verdict
    })
}

fn settings(batch: u32, normalised: u32, lr: f64, warmup_epochs: u32) -> Figures {
    Figures { settings: Some(Settings { batch, normalised, lr, warmup_epochs }), ..Figures::default() }
}

fn loss(epoch_loss: &[f64]) -> Figures {
    Figures { loss: epoch_loss.last().copied(), epoch_loss: epoch_loss.into(), is_cosine: true, ..Figures::default() }
}

fn knn(knn: &[f64], untrained: Option<f64>) -> Figures {
    Figures { knn: knn.into(), untrained, ..Figures::default() }
}

fn published(loss: f64, top1: Option<f64>) -> Figures {
    let knn = top1.map(|top1| (25.0, [top1, 39.0]));
    Figures { published: Some(Published { epoch: 30.0, loss: [loss, -0.6], knn }), ..Figures::default() }
}

#[test]
fn verdict_of_each_rule_changes_at_its_thresholds() {
    use Verdict::{Look, Ok, Wrong};
    let std = |share| Figures { std_share: Some(share), ..Figures::default() };
    let rank = |ranks: &[f64]| Figures { effective_rank: ranks.into(), ..Figures::default() };
    let auc = |auc| Figures { explained_variance_auc: Some(auc), ..Figures::default() };
    let wait = |share| Figures { data_wait: Some(share), ..Figures::default() };
    let steps = |steps| Figures { steps: Some(steps), ..Figures::default() };
    let cross_entropy = Figures { is_cosine: false, ..loss(&[7.0, 9.0]) };
    let diverged = Figures { loss: Some(f64::NAN), ..loss(&[-0.5]) };
    for (title, figures, expected) in [
        ("Output std", std(1.0), Some(Ok)),
        ("Output std", std(0.5), Some(Ok)),
        ("Output std", std(0.49), Some(Look)),
        ("Output std", std(0.19), Some(Wrong)),
        ("Output std", std(0.0), Some(Wrong)),
        ("Effective rank", rank(&[40.0, 60.0, 31.0]), Some(Ok)),
        ("Effective rank", rank(&[40.0, 60.0, 29.0]), Some(Look)),
        ("Effective rank", rank(&[1.9]), Some(Wrong)),
        ("Explained variance", auc(0.95), Some(Ok)),
        ("Explained variance", auc(0.96), Some(Look)),
        ("Explained variance", auc(0.995), Some(Wrong)),
        ("Loss", loss(&[-0.3]), None),
        ("Loss", loss(&[-0.3, -0.5, -0.45]), Some(Ok)),
        ("Loss", loss(&[-0.3, -0.5, -0.39, -0.8]), Some(Look)),
        ("Loss", loss(&[-0.3, -0.9, -0.5]), Some(Wrong)),
        ("Loss", cross_entropy, None),
        ("Loss", diverged, Some(Wrong)),
        ("Waiting for data", wait(0.05), Some(Ok)),
        ("Waiting for data", wait(0.06), Some(Look)),
        ("Waiting for data", wait(0.21), Some(Wrong)),
        ("Number of steps", steps(2424), Some(Look)),
        ("Number of steps", steps(2425), Some(Ok)),
        ("kNN accuracy", knn(&[30.0], None), None),
        ("kNN accuracy", knn(&[30.0, 28.0], None), Some(Ok)),
        ("kNN accuracy", knn(&[30.0, 26.0], None), Some(Look)),
        ("kNN accuracy", knn(&[30.0], Some(26.0)), Some(Ok)),
        ("kNN accuracy", knn(&[28.0], Some(26.0)), Some(Look)),
        ("kNN accuracy", knn(&[25.0], Some(26.0)), Some(Wrong)),
        ("Batch and learning rate", settings(512, 512, 0.05, 0), Some(Ok)),
        ("Batch and learning rate", settings(512, 63, 0.05, 0), Some(Look)),
        ("Batch and learning rate", settings(1024, 1024, 0.05, 0), Some(Look)),
        ("Batch and learning rate", settings(1024, 1024, 0.05, 10), Some(Ok)),
        ("Batch and learning rate", settings(4096, 4096, 0.05, 10), Some(Look)),
        ("Batch and learning rate", settings(512, 512, 0.51, 0), Some(Look)),
        ("Batch and learning rate", settings(512, 512, f64::NAN, 0), None),
        ("Published run", published(-0.56, None), Some(Ok)),
        ("Published run", published(-0.54, None), Some(Look)),
        ("Published run", published(-0.6, Some(34.5)), Some(Ok)),
        ("Published run", published(-0.6, Some(33.5)), Some(Look)),
    ] {
        assert_eq!(verdict(title, &figures), expected, "{title}: {figures:?}");
    }
    assert!(findings(&Figures::default()).is_empty(), "without figures there is nothing to say");
}

/// A measurement after `epoch` epochs of ten steps.
fn record(epoch: f64, values: &[(&Metric, f64)]) -> Record {
    let mut training = Training { steps: 40, epochs: 4, ..Training::default() };
    for (metric, value) in values {
        training.values.set(metric.key, *value);
    }
    let step = (10.0 * epoch) as u64;
    let what = Measurement::Training(training);
    Record { time: String::new(), stage: "pretrain".into(), attempt: 1, step, epoch, what }
}

#[test]
fn figures_are_taken_from_the_history_and_what_is_not_finite_is_absent() {
    let nan = f64::NAN;
    let history = History::of(vec![
        record(0.5, &[(&metrics::LOSS, -0.2), (&metrics::DATA_WAIT, 0.9)]),
        record(1.0, &[(&metrics::LOSS, -0.4), (&metrics::DATA_WAIT, 0.1), (&metrics::EFFECTIVE_RANK, 30.0)]),
        record(2.0, &[(&metrics::LOSS, nan), (&metrics::DATA_WAIT, nan), (&metrics::EFFECTIVE_RANK, nan)]),
        record(3.0, &[(&metrics::LOSS, -0.5), (&metrics::OUTPUT_STD, 0.01), (&metrics::OUTPUT_STD_HEALTHY, 0.02)]),
    ]);
    let pretrain = Pretrain { batch_size: 128, accumulate: 4, ..Pretrain::default() };
    let figures = Figures::of(Some(&pretrain), &history);
    assert_eq!(figures.epoch_loss.len(), 2, "{figures:?}");
    assert!((figures.epoch_loss[0] - -0.3).abs() < 1e-12 && figures.epoch_loss[1] == -0.5, "{figures:?}");
    assert_eq!((figures.loss, figures.std_share, figures.steps), (Some(-0.5), Some(0.5), Some(40)));
    assert_eq!((figures.effective_rank, figures.explained_variance_auc), (vec![30.0], None));
    assert_eq!(figures.data_wait, Some(0.1), "without the first interval");
    assert_eq!(figures.settings, Some(Settings { batch: 128, normalised: 32, lr: 0.05, warmup_epochs: 0 }));
    assert_eq!((figures.published, figures.untrained), (None, None));

    let std = |std, healthy| {
        let record = record(1.0, &[(&metrics::OUTPUT_STD, std), (&metrics::OUTPUT_STD_HEALTHY, healthy)]);
        Figures::of(None, &History::of(vec![record])).std_share
    };
    assert_eq!([std(nan, 0.02), std(0.01, nan), std(0.01, 0.0)], [None; 3]);
    let last = Figures::of(None, &History::of(vec![record(1.0, &[(&metrics::LOSS, nan)])]));
    assert_eq!(verdict("Loss", &last), Some(Verdict::Wrong));
}

/// The preset's recipe, and a history of `epoch` epochs of it with this loss and kNN accuracy.
fn cifar10(epoch: f64, loss: f64, top1: f64) -> (Pretrain, History) {
    let recipe = serde_json::json!({"preset": "cifar10"});
    let fields = Preset::Cifar10.fields();
    let mut all = fields.as_object().unwrap().clone();
    all.extend(recipe.as_object().unwrap().clone());
    let pretrain: Pretrain = serde_json::from_value(all.into()).unwrap();
    let mut record = record(epoch, &[(&metrics::LOSS, loss)]);
    if let Measurement::Training(training) = &mut record.what {
        (training.steps, training.epochs) = (800 * 97, 800);
    }
    let scores = vec![KnnScore { k: 200, temperature: 0.1, top1, caveat: None }];
    let what = Measurement::Knn { features: EncoderKind::Trained, scores };
    let knn = Record { what, ..record.clone() };
    (pretrain, History::of(vec![record, knn]))
}

#[test]
fn published_run_is_compared_and_drawn_for_its_recipe_only() {
    let (pretrain, history) = cifar10(100.0, -0.80, 60.0);
    let figures = Figures::of(Some(&pretrain), &history);
    let expected = Published { epoch: 100.0, loss: [-0.80, -0.847], knn: Some((100.0, [60.0, 70.6])) };
    assert_eq!(figures.published, Some(expected));
    assert_eq!(verdict("Published run", &figures), Some(Verdict::Look), "10.6 points below");
    let drawn = |pretrain: &Pretrain| {
        let mut charts = crate::report::curves::charts(&history);
        let before: Vec<_> = charts.iter().map(|chart| chart.series.len()).collect();
        reference::draw(&mut charts, pretrain, &history);
        let more = charts.iter().zip(before).filter(|(chart, before)| chart.series.len() > *before);
        more.map(|(chart, _)| chart.title.clone()).collect::<Vec<_>>()
    };
    assert_eq!(drawn(&pretrain), ["Loss", "kNN accuracy"]);
    let others = [
        Pretrain { epochs: 200, ..pretrain.clone() },
        Pretrain { lr: 0.05, ..pretrain.clone() },
        Pretrain { base_width: 16, ..pretrain.clone() },
    ];
    for other in others {
        assert!(drawn(&other).is_empty() && Figures::of(Some(&other), &history).published.is_none(), "{other:?}");
    }
}

#[test]
fn value_between_points_of_a_curve_is_interpolated() {
    let at = |epoch| reference::at(REFERENCE_LOSS, epoch).map(|value| (value * 1e4).round() / 1e4);
    assert_eq!([0.5, 1.0, 4.0, 800.0, 801.0].map(at), [None, Some(-0.292), Some(-0.5105), Some(-0.945), None]);
}

#[test]
fn rules_and_curve_match_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/what-is-normal.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut expected = page.clone();
    for (begin, table) in [
        ("<!-- From trainer/src/report/health/rules.rs -->\n", rules::documentation()),
        ("<!-- From trainer/src/report/reference.rs -->\n", rules::curve_documentation(REFERENCE_LOSS, REFERENCE_KNN)),
    ] {
        let (before, rest) = expected.split_once(begin).unwrap();
        let (_, after) = rest.split_once("<!-- End -->\n").unwrap();
        expected = format!("{before}{begin}{table}<!-- End -->\n{after}");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert!(
            page == expected,
            "docs/what-is-normal.md differs: UPDATE_GOLDEN=1 cargo test -p simsiam-trainer --lib health"
        );
    }
}
