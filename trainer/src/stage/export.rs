//! The export stage: the latest checkpoint's weights in the requested formats.

use simsiam_contract::{Exported, RankPhase, StageResult};
use simsiam_recipe::{ExportFormat, Recipe};

use crate::checkpoint::{Checkpoints, store::sha256};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::storage::Storage;
use crate::telemetry::event::Event;
use crate::weights::Weights;

/// The stage's folder in the output.
pub const FOLDER: &str = "export";

/// Writes `spec.export` into the output.
pub fn run(rank: &Rank, recipe: &Recipe, storage: &Storage) -> Result<StageResult, Error> {
    rank.sink.send(&Event::Phase { phase: RankPhase::Evaluating });
    let found =
        rank.on_rank_0("export", || export(&recipe.export, storage, &|name| format!("{FOLDER}/{name}"), storage))?;
    Ok(StageResult { exports: Some(found), ..StageResult::default() })
}

/// Writes the latest checkpoint of `run` into `to`, one file per format, at the path that `path` returns for its name.
pub fn export(
    formats: &[ExportFormat],
    run: &Storage,
    path: &dyn Fn(&str) -> String,
    to: &Storage,
) -> Result<Vec<Exported>, Error> {
    let found = Checkpoints::new(run.clone()).require_latest("export")?;
    let weights = Weights::from_checkpoint(&found)?;
    weights.warn_of_other_shapes(formats);
    let mut exported = Vec::new();
    for &format in formats {
        let file = weights.file(format)?;
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
    Ok(exported)
}
