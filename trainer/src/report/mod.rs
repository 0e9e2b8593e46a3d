//! The page about a run: one HTML file with everything in it, from the journal, the images and the latest checkpoint.
//!
//! This module collects the content; [`history`] merges the measurements of all attempts and [`curves`] makes charts of it, [`images`]
//! draws views and thumbnails, [`similarity`] compares features of the encoder; [`mod@health`] says what in the figures is
//! normal, [`reference`](mod@reference) holds a published curve to compare them with; [`mod@page`] and [`svg`] turn the
//! result into text. What is missing (labels, a checkpoint, the images) is named in its section of the page.

pub mod curves;
pub mod escape;
pub mod health;
pub mod history;
pub mod images;
pub mod page;
pub mod reference;
pub mod sample;
pub mod similarity;
pub mod svg;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use simsiam_contract::RankPhase;
use simsiam_data::Source;
use simsiam_recipe::{Pretrain, Recipe, Report};
use tch::Kind;

use crate::checkpoint::{Checkpoints, Found, snapshot};
use crate::data::datasets::{Datasets, eval_view, loader_threads};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::model::SimSiam;
use crate::storage::Storage;
use crate::telemetry::event::Event;
use crate::telemetry::journal::{self, Training};
use crate::telemetry::metric_table::{self, LINEAR_BEST_TOP1, LINEAR_TOP1, LINEAR_TOP5};
use health::{Figures, Finding};
use history::History;
use images::ThumbnailRenderer;
use page::{Figure, Neighbour, NeighbourRow, Neighbours, Page, Part, Projection, Views};
use sample::spread;
use similarity::{Features, extract, nearest, principal};
use svg::{Chart, MOST_CLASSES, Scatter, number};

/// The page's name in the run's output.
pub const FILE: &str = "report.html";
/// Neighbours of each image.
const NEIGHBOURS: usize = 5;

/// What the page is about.
pub struct Run<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// The run.
    pub recipe: &'a Recipe,
    /// The text of its file.
    pub text: &'a str,
}

/// Writes the page into the run's output and returns its address.
///
/// # Errors
/// If the output cannot be read or written, or libtorch fails. Missing images or checkpoints are no errors.
pub fn write(rank: &Rank, run: &Run, storage: &Storage) -> Result<String, Error> {
    let html = page(rank, run, storage)?;
    storage.put(FILE, html.into_bytes())?;
    Ok(storage.uri(FILE))
}

/// The page as HTML.
///
/// # Errors
/// As [`write()`].
pub fn page(rank: &Rank, run: &Run, storage: &Storage) -> Result<String, Error> {
    rank.sink.send(&Event::Phase { phase: RankPhase::Evaluating });
    let history = History::of(journal::read(storage)?);
    let findings = health::findings(&Figures::of(run.recipe.pretrain.as_ref(), &history));
    health::log(&findings);
    let builder = ReportBuilder::new(rank, run, storage)?;
    let features = builder.model().and_then(|model| builder.feature_sections(&model));
    let (neighbours, projection) = match features {
        Ok(sections) => sections,
        Err(Error::Terminated) => return Err(Error::Terminated),
        Err(why) => (Err(why.to_string()), Err(why.to_string())),
    };
    Ok(page::html(&Page {
        run: run.name.to_owned(),
        summary: builder.summary(),
        figures: figures(&history, builder.found.as_ref()),
        findings: part_of(findings),
        charts: charts(run.recipe, &history),
        classifiers: curves::classifiers(&history),
        pictures: images::note(run.recipe.dataset.channels()),
        views: builder.views(),
        neighbours,
        projection,
        settings: settings(run.recipe),
        yaml: run.text.to_owned(),
    }))
}

/// The findings, or why there are none.
fn part_of(findings: Vec<Finding>) -> Part<Vec<Finding>> {
    if findings.is_empty() { Err("Nothing was measured yet.".into()) } else { Ok(findings) }
}

/// The curves of pre-training, with the published one for a run of its recipe.
fn charts(recipe: &Recipe, history: &History) -> Vec<Chart> {
    let mut charts = curves::charts(history);
    if let Some(pretrain) = &recipe.pretrain {
        reference::draw(&mut charts, pretrain, history);
    }
    charts
}

struct ReportBuilder<'a> {
    rank: &'a Rank,
    recipe: &'a Recipe,
    settings: Report,
    train: Part<Arc<dyn Source>>,
    /// The labelled images whose neighbours are shown: the training images, or those of `dataset.probe`.
    bank: Part<Arc<dyn Source>>,
    /// The validation images; `None` if the run has none.
    val: Option<Part<Arc<dyn Source>>>,
    found: Option<Found>,
}

type FeatureSections = (Part<Neighbours>, Part<Projection>);

impl<'a> ReportBuilder<'a> {
    fn new(rank: &'a Rank, run: &Run<'a>, storage: &Storage) -> Result<Self, Error> {
        let datasets = Datasets::new(run.recipe, storage.runtime().clone());
        let text_of = |e: Error| format!("The images cannot be read: {e}");
        let train = datasets.train().map_err(text_of);
        let bank = match run.recipe.dataset.probe {
            Some(_) => datasets.labelled_train().map_err(text_of),
            None => train.clone(),
        };
        let has_val = run.recipe.dataset.val.is_some() || run.recipe.dataset.probe.is_some();
        let val = match &bank {
            Ok(train) if has_val => Some(datasets.val(train.classes()).map_err(text_of)),
            _ => None,
        };
        let found = Checkpoints::new(storage.clone()).latest()?;
        Ok(Self {
            rank,
            recipe: run.recipe,
            settings: run.recipe.report.clone().unwrap_or_default(),
            train,
            bank,
            val,
            found,
        })
    }

    fn pretrain(&self) -> Result<&'a Pretrain, Error> {
        self.recipe.pretrain.as_ref().ok_or_else(|| Error::missing("spec.pretrain", "the report stage"))
    }

    fn summary(&self) -> String {
        let mut parts = Vec::new();
        if let Some(p) = &self.recipe.pretrain {
            parts.push(format!("{}, {} epochs, batch {}", p.arch, p.epochs, p.batch_size));
        }
        if let Ok(train) = &self.train {
            parts.push(format!("{} training images", train.len()));
            if !train.classes().is_empty() {
                parts.push(format!("{} classes", train.classes().len()));
            }
        }
        if let Some(Ok(val)) = &self.val {
            parts.push(format!("{} validation images", val.len()));
        }
        parts.push(format!("simsiam {}", env!("CARGO_PKG_VERSION")));
        parts.join(" · ")
    }

    fn views(&self) -> Part<Vec<Views>> {
        let train = self.train.as_ref().map_err(Clone::clone)?;
        let pretrain = self.pretrain().map_err(|e| e.to_string())?;
        let mut renderer = ThumbnailRenderer::new(&pretrain.augment, pretrain.seed);
        let sample = spread(train, self.settings.views as usize, |_| true);
        // An image that cannot be read is missing here as it is in training.
        let views: Vec<_> = sample.ids().iter().filter_map(|id| renderer.views(&**train, *id).ok()).collect();
        if views.is_empty() { Err("No image is shown.".into()) } else { Ok(views) }
    }

    /// The encoder of the latest checkpoint.
    fn model(&self) -> Result<SimSiam, Error> {
        let pretrain = self.pretrain()?;
        let found = self.found.as_ref().ok_or_else(|| Error::Checkpoint {
            uri: self.recipe.output.uri.clone(),
            message: "there is none yet, so there are no features to show".into(),
        })?;
        let model = SimSiam::new(pretrain, Kind::Float, self.rank.device)?;
        snapshot::restore_model(model.params(), &found.model, &found.uri)?;
        Ok(model)
    }

    /// Neighbours and projection: of the validation images, or of training images where there are none.
    fn feature_sections(&self, model: &SimSiam) -> Result<FeatureSections, Error> {
        let train = match &self.bank {
            Ok(train) => train,
            Err(why) => return Ok((Err(why.clone()), Err(why.clone()))),
        };
        let (evaluated, same) = match &self.val {
            None => (train, true),
            Some(Ok(val)) => (val, false),
            Some(Err(why)) => return Ok((Err(why.clone()), Err(why.clone()))),
        };
        let augment = &self.pretrain()?.augment;
        let threads = loader_threads(&self.recipe.dataset, self.rank.info.threads);
        let view = eval_view(augment);
        let extract = |sample, what: &str| extract(self.rank, model, sample, &view, threads, what);
        let bank = extract(spread(train, self.settings.bank as usize, |_| true), "images to compare with")?;
        let queries = extract(spread(evaluated, self.settings.queries as usize, |_| true), "images to look up")?;
        let neighbours = self.neighbours(&bank, &queries, evaluated, same);
        let shown = shown_classes(evaluated.classes().len());
        let wanted = |id| evaluated.label(id).is_none_or(|label| shown.contains_key(&label));
        let points = extract(spread(evaluated, self.settings.points as usize, wanted), "images to project")?;
        Ok((neighbours, projection(&points, evaluated, same, &shown)))
    }

    fn neighbours(
        &self,
        bank: &Features,
        queries: &Features,
        evaluated: &Arc<dyn Source>,
        same: bool,
    ) -> Part<Neighbours> {
        let text_of = |e: Error| e.to_string();
        let train = self.bank.as_ref().map_err(Clone::clone)?;
        if queries.ids.is_empty() || bank.ids.len() < 2 {
            return Err("There are too few readable images.".into());
        }
        let pretrain = self.pretrain().map_err(text_of)?;
        let mut renderer = ThumbnailRenderer::new(&pretrain.augment, pretrain.seed);
        let class = |source: &Arc<dyn Source>, id| Some(source.classes().get(source.label(id)? as usize)?.clone());
        let mut rows = Vec::new();
        for (id, found) in queries.ids.iter().zip(nearest(queries, bank, NEIGHBOURS, same).map_err(text_of)?) {
            let query = renderer.thumbnail(&**evaluated, *id).map_err(text_of)?;
            let mut nearest = Vec::new();
            for (index, similarity) in found {
                let id = bank.ids[index];
                let picture = renderer.thumbnail(&**train, id).map_err(text_of)?;
                nearest.push(Neighbour { picture, class: class(train, id), similarity });
            }
            rows.push(NeighbourRow { query, class: class(evaluated, *id), nearest });
        }
        let kind = if same { "training" } else { "validation" };
        let voters =
            if self.recipe.dataset.probe.is_some() { "images of dataset.probe.train" } else { "training images" };
        let marks = marks(train.classes());
        let step = self.found.as_ref().map_or(0, |f| f.state.step);
        let note = format!(
            "Each row starts with a {kind} image, followed by its nearest {voters} by feature, out of {}, with their \
             cosine similarity. Encoder of the checkpoint after step {step}.{marks}",
            bank.ids.len(),
        );
        Ok(Neighbours { note, rows })
    }
}

/// What the marks beside neighbours mean.
fn marks(classes: &[String]) -> &'static str {
    match classes {
        [] => "",
        [_] => " All images have one class, so any features would find neighbours of the same class.",
        _ => " ✓ marks the same class, ✗ another.",
    }
}

/// The classes of the projection, with their positions in the legend: all, or as many as can be distinguished, spread
/// evenly.
fn shown_classes(count: usize) -> BTreeMap<u32, usize> {
    let shown = count.min(MOST_CLASSES);
    (0..shown).map(|i| ((i * count / shown) as u32, i)).collect()
}

fn projection(
    points: &Features,
    evaluated: &Arc<dyn Source>,
    same: bool,
    shown: &BTreeMap<u32, usize>,
) -> Part<Projection> {
    if points.ids.len() < 3 {
        return Err("There are too few readable images.".into());
    }
    let (places, share) = principal(&points.rows).map_err(|e| e.to_string())?;
    let class = |id| evaluated.label(id).and_then(|label| shown.get(&label)).copied().unwrap_or(0);
    let points = places.iter().zip(&points.ids);
    let points: Vec<_> = points.map(|([x, y], id)| (*x, *y, class(*id), evaluated.name(*id).to_owned())).collect();
    let classes: Vec<String> =
        shown.keys().filter_map(|label| evaluated.classes().get(*label as usize)).cloned().collect();
    let kind = if same { "training" } else { "validation" };
    let of = match evaluated.classes().len() {
        0 => " The images have no labels, so all have one colour.".to_owned(),
        all if all > classes.len() => format!(" {} of {all} classes are shown, spread evenly.", classes.len()),
        _ => " One colour and shape for each class.".to_owned(),
    };
    let note = format!(
        "The first two principal components of the features of {} {kind} images, which explain {} % and {} % of the \
         variance. Classes that the features separate appear apart, though two dimensions show only part of it.{of}",
        points.len(),
        number((share[0] * 1000.0).round() / 10.0),
        number((share[1] * 1000.0).round() / 10.0),
    );
    let axes = ["1st component".into(), "2nd component".into()];
    Ok(Projection { note, plot: Scatter { axes, classes, points } })
}

/// The results that are available; `found` is the checkpoint whose address is one of them.
pub fn figures(history: &History, found: Option<&Found>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut figure = |label: &str, value: String, detail: String| {
        figures.push(Figure { label: label.into(), value, detail });
    };
    let percent = |value: f64| format!("{value:.1} %");
    let classifiers =
        [("Fine-tuned", &history.finetune, &Vec::new()), ("Linear", &history.linear, &history.linear_untrained)];
    for (name, points, untrained) in classifiers {
        if let Some(last) = points.last() {
            let last = &last.value;
            let mut detail = format!(
                "best epoch; last epoch {}, top-5 {}",
                percent(last.get(&LINEAR_TOP1)),
                percent(last.get(&LINEAR_TOP5))
            );
            if let Some(untrained) = untrained.last() {
                detail = format!("{detail}; untrained {}", percent(untrained.value.get(&LINEAR_BEST_TOP1)));
            }
            if let Some(caveat) = &last.caveat {
                detail = format!("{detail}; {caveat}");
            }
            figure(&format!("{name} top-1"), percent(last.get(&LINEAR_BEST_TOP1)), detail);
        }
    }
    if let Some(score) = history.knn.last().and_then(|p| p.value.first()) {
        let untrained = history.untrained.as_ref().and_then(|s| s.first());
        let untrained = untrained.map_or(String::new(), |s| format!(", untrained {}", percent(s.top1)));
        let caveat = score.caveat.as_ref().map_or_else(String::new, |caveat| format!("; {caveat}"));
        figure("kNN top-1", percent(score.top1), format!("k={}, T={}{untrained}{caveat}", score.k, score.temperature));
    }
    if let Some(last) = history.training.last() {
        let t = &last.value;
        figure("Loss", number(t.get(&metric_table::LOSS).unwrap_or(f64::NAN)), "−1 is full agreement".into());
        if let (Some(std), Some(healthy)) = (t.get(&metric_table::OUTPUT_STD), t.get(&metric_table::OUTPUT_STD_HEALTHY))
        {
            figure("Output std", number(std), format!("healthy is near {}", number(healthy)));
        }
        let rate = |p: &history::Point<Training>| p.value.get(&metric_table::IMAGES_PER_SECOND);
        let mut rates: Vec<f64> = history.training.iter().filter_map(rate).collect();
        rates.sort_by(f64::total_cmp);
        figure(
            "Images/s",
            rates.get(rates.len() / 2).map_or(String::new(), |rate| format!("{rate:.0}")),
            "median; each image counts once, as two views".into(),
        );
        figure("Epochs", number(last.epoch), format!("of {}, {} of {} steps", t.epochs, last.step, t.steps));
    }
    if history.attempts > 1 {
        figure("Attempts", history.attempts.to_string(), "of pre-training".into());
    }
    if let (Some(found), true) = (found, history.training.is_empty()) {
        figure("Steps", found.state.step.to_string(), "of the latest checkpoint; no journal was found".into());
    }
    figures
}

/// Lists every field of the recipe with its value, by path.
fn settings(recipe: &Recipe) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, rows);
                }
            }
            Value::String(text) => rows.push((path.to_owned(), text.clone())),
            other => rows.push((path.to_owned(), other.to_string())),
        }
    }
    let mut rows = Vec::new();
    walk("", &serde_json::to_value(recipe).unwrap_or_default(), &mut rows);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::EncoderKind;
    use crate::telemetry::journal::{Measurement, Record};

    #[test]
    fn classes_beyond_the_limit_are_spread_evenly() {
        assert_eq!(shown_classes(3).into_iter().collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 2)]);
        let of_many = shown_classes(1000);
        assert_eq!((of_many.len(), of_many.get(&41)), (MOST_CLASSES, Some(&1)));
        assert!(shown_classes(0).is_empty());
    }

    #[test]
    fn caveats_of_scores_and_sets_are_on_the_page() {
        let score = |caveat: Option<&str>| simsiam_contract::KnnScore {
            k: 200,
            temperature: 0.1,
            top1: 50.0,
            caveat: caveat.map(str::to_owned),
        };
        let notes = |caveat: Option<&str>| {
            let what = Measurement::Knn { features: EncoderKind::Trained, scores: vec![score(caveat)] };
            let record = Record { time: String::new(), stage: "knn".into(), attempt: 1, step: 5, epoch: 1.0, what };
            let history = History::of(vec![record]);
            let detail = figures(&history, None).into_iter().find(|figure| figure.label == "kNN top-1").unwrap().detail;
            let charts = curves::charts(&history);
            let chart = charts.into_iter().find(|chart| chart.title == "kNN accuracy").unwrap();
            (detail, chart.note)
        };
        let caveat = "k exceeds the 40 training images, so each of them votes";
        let (detail, note) = notes(Some(caveat));
        assert!(detail.ends_with(&format!("; {caveat}")), "{detail}");
        assert!(note.ends_with(&format!("Note on k=200: {caveat}.")), "{note}");
        let (detail, note) = notes(None);
        assert!(!detail.contains(';') && !note.contains("Note on"), "{detail}; {note}");
        assert!(marks(&["a".into()]).contains("one class") && marks(&["a".into(), "b".into()]).contains('✓'));
    }

    #[test]
    fn report_of_a_run_without_measurements_is_written() {
        let history = History::of(Vec::new());
        assert!(figures(&history, None).is_empty());
        assert!(curves::charts(&history).iter().all(|chart| svg::chart(chart).contains("No measurements")));
    }
}
