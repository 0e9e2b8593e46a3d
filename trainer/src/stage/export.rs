//! The export stage: the latest checkpoint's weights in the requested formats.

use simsiam_contract::{Exported, RankPhase, StageResult};
use simsiam_recipe::{ExportFormat, Recipe};

use crate::checkpoint::{Checkpoints, Found, store::sha256};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::report::history::History;
use crate::report::{self, curves, svg};
use crate::storage::Storage;
use crate::telemetry::event::Event;
use crate::telemetry::metric::Metric;
use crate::telemetry::{journal, metric_table};
use crate::weights::Weights;
use crate::weights::huggingface::Card;
use crate::weights::write::File;

/// The stage's folder in the output.
pub const FOLDER: &str = "export";
/// Metrics whose charts are on a model card.
const CARD_METRICS: [Metric; 2] = [metric_table::LOSS, metric_table::KNN_TOP1];

/// Writes `spec.export` into the output; `run` is the run's name.
pub fn run(rank: &Rank, run: &str, recipe: &Recipe, storage: &Storage) -> Result<StageResult, Error> {
    rank.sink.send(&Event::Phase { phase: RankPhase::Evaluating });
    let from = Source { run, recipe, storage };
    let found =
        rank.on_rank_0("export", || export(&recipe.export, &from, &|name| format!("{FOLDER}/{name}"), storage))?;
    Ok(StageResult { exports: Some(found), ..StageResult::default() })
}

/// The run whose weights are exported.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its name.
    pub run: &'a str,
    /// What it was asked to do.
    pub recipe: &'a Recipe,
    /// Its output.
    pub storage: &'a Storage,
}

/// Writes the latest checkpoint of a run into `to`, in each format, at the path that `path` returns for a file's name.
pub fn export(
    formats: &[ExportFormat],
    from: &Source,
    path: &dyn Fn(&str) -> String,
    to: &Storage,
) -> Result<Vec<Exported>, Error> {
    let found = Checkpoints::new(from.storage.clone()).require_latest("export")?;
    let weights = Weights::from_checkpoint(&found)?;
    weights.warn_of_other_shapes(formats);
    let mut exported = Vec::new();
    for &format in formats {
        let files = match format {
            ExportFormat::Huggingface => huggingface(&weights, from, &found)?,
            _ => vec![weights.file(format)?],
        };
        for file in files {
            let path = path(&file.name);
            let entry = Exported {
                format: format.name().to_owned(),
                file: path.clone(),
                bytes: file.bytes.len() as u64,
                sha256: sha256(&file.bytes),
            };
            to.put(&path, file.bytes)?;
            tracing::info!("wrote {}", to.uri(&path));
            exported.push(entry);
        }
    }
    Ok(exported)
}

/// The Hugging Face folder, whose model card has the figures and curves of the run's journal.
fn huggingface(weights: &Weights, from: &Source, found: &Found) -> Result<Vec<File>, Error> {
    let pretrain = from.recipe.pretrain.as_ref();
    let pretrain = pretrain.ok_or_else(|| Error::missing("spec.pretrain", "the model card"))?;
    let history = History::of(journal::read(from.storage)?);
    let figures = report::figures(&history, None);
    let on_card: Vec<_> = CARD_METRICS.iter().filter_map(|metric| Some(metric.curve.as_ref()?.chart)).collect();
    let charts = curves::charts(&history).into_iter().filter(|chart| on_card.contains(&chart.title.as_str()));
    weights.huggingface(&Card {
        run: from.run,
        pretrain,
        samples: found.state.samples,
        figures: figures.into_iter().map(|figure| [figure.label, figure.value, figure.detail]).collect(),
        curves: charts.filter_map(|chart| Some((chart.title.clone(), svg::picture(&chart)?))).collect(),
    })
}
