//! The prepare stage: packs the recipe's data sets into its output.

use simsiam_contract::{RankPhase, StageResult};
use simsiam_recipe::Recipe;

use crate::data::datasets::{Datasets, loader_threads};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::storage::Storage;
use crate::telemetry::Event;

/// Packs the data sets on rank 0, while the others wait.
///
/// # Errors
/// If images cannot be read or shards cannot be written.
pub fn run(rank: &Rank, recipe: &Recipe, storage: &Storage) -> Result<StageResult, Error> {
    rank.on_rank_0("packing", || {
        rank.sink.send(&Event::Phase { phase: RankPhase::Starting });
        let datasets = Datasets::new(recipe, storage.runtime().clone());
        datasets.prepare(loader_threads(&recipe.dataset, rank.info.threads), |part, done, of| {
            let (done, of) = (done as u64, of as u64);
            rank.sink.send(&Event::Evaluated { done, of, what: format!("{part} images packed") });
        })
    })?;
    Ok(StageResult::default())
}
