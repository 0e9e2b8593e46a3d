//! Measures the loader and a few training steps on this machine, in about ten seconds unless a step takes longer than two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use simsiam_data::{Loader, LoaderOptions, Source, Subset};
use simsiam_recipe::{Pretrain, Recipe};

use super::facts::Rates;
use super::rules::bytes_per_rank;
use crate::data::datasets::{decode_mode, loader_threads, two_views};
use crate::error::Error;
use crate::training::bench::{self, Bench};

/// For how long the loader is measured.
const LOADING: Duration = Duration::from_secs(2);
/// Steps longer than half of this are not made longer still.
const STEP: f64 = 0.7;
/// Steps longer than this are measured once, not three times.
const SLOW: f64 = 2.0;
/// Images of a loader's batch.
const BATCH: usize = 16;

/// Where and with how much the measurement runs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads of libtorch, and of the loader if the recipe names no other number.
    pub threads: u32,
    /// Ranks that share a batch.
    pub ranks: usize,
    /// Bytes that a step may take.
    pub memory: f64,
}

/// Measures the recipe on the images `ids` of `source`.
///
/// # Errors
/// If an image or libtorch fails.
pub fn rates(
    recipe: &Recipe,
    pretrain: &Pretrain,
    source: Arc<dyn Source>,
    ids: Vec<u64>,
    limits: Limits,
) -> Result<Rates, Error> {
    let loader_threads = loader_threads(&recipe.dataset, limits.threads);
    let loading = loading(recipe, pretrain, Arc::new(Subset::of(source, ids)), loader_threads)?;
    let (training, step_images) = training(pretrain, limits)?;
    Ok(Rates { loading, loader_threads, training, step_images })
}

/// Images per second of the loader alone, over as many epochs as the time takes.
fn loading(recipe: &Recipe, pretrain: &Pretrain, source: Arc<dyn Source>, threads: usize) -> Result<f64, Error> {
    let views = two_views(&pretrain.augment);
    let batch = BATCH.min(source.len());
    let (mut images, mut start) = (0, Instant::now());
    for epoch in 0.. {
        let options = LoaderOptions {
            epoch,
            batch,
            threads,
            max_corrupt: u64::MAX,
            decode: decode_mode(&recipe.dataset),
            ..LoaderOptions::default()
        };
        let mut loader = Loader::two_views(Arc::clone(&source), views.clone(), options)?;
        while let Some(made) = loader.next() {
            loader.recycle(made?);
            // The clock starts after the first batch: buffers and, for remote images, connections exist then.
            if images == 0 && epoch == 0 {
                start = Instant::now();
            }
            images += batch;
            if start.elapsed() > LOADING {
                return Ok((images - batch) as f64 / start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(f64::NAN)
}

/// Images per second of training steps alone, and the images of a step: as many as the rank's share of the batch, but
/// fewer where a step would take long or more memory than there is.
fn training(pretrain: &Pretrain, limits: Limits) -> Result<(f64, u32), Error> {
    let share = (pretrain.batch_size as usize / pretrain.accumulate as usize / limits.ranks).max(2) as u32;
    let measured = |batch: u32, steps: u32| {
        let recipe = Pretrain { batch_size: batch, ..pretrain.clone() };
        let crop = pretrain.augment.crop_size;
        bench::run(&Bench { recipe, crop, steps, warmup: 1, threads: limits.threads })
    };
    let fits = |batch: u32| bytes_per_rank(pretrain, batch as usize) <= limits.memory;
    // Two images always: a model for which they are too many cannot be trained here at all.
    let mut batch = 2;
    let mut first = measured(batch, 1)?;
    while batch < share && first.step_seconds < STEP / 2.0 {
        let larger = (2 * batch).min(share);
        if !fits(larger) {
            break;
        }
        batch = larger;
        first = measured(batch, 1)?;
    }
    let last = if first.step_seconds > SLOW { first } else { measured(batch, 3)? };
    Ok((last.images_per_second, batch))
}
