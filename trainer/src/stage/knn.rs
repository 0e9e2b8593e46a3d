//! The knn stage: classifies the validation images by their nearest neighbours among the training images.

use simsiam_contract::{KnnScore, StageResult};
use simsiam_recipe::Recipe;
use tch::Kind;

use crate::checkpoint::{Checkpoints, snapshot};
use crate::data::datasets::{Datasets, eval_view, loader_threads};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::knn::{Evaluation, Features};
use crate::model::SimSiam;
use crate::storage::Storage;
use crate::telemetry::Event;
use crate::weights::Weights;

/// Evaluates the encoder of `weights`, or else of the latest checkpoint, next to the untrained encoder and, with
/// `pixels`, to raw pixels.
///
/// # Errors
/// If there is no checkpoint, or the images cannot be read or have no labels.
pub fn run(
    rank: &Rank,
    recipe: &Recipe,
    storage: &Storage,
    weights: Option<&Weights>,
    pixels: bool,
) -> Result<StageResult, Error> {
    let missing = |field| Error::config(field, "missing; kNN evaluates the encoder that spec.pretrain describes");
    let pretrain = recipe.pretrain.as_ref().ok_or_else(|| missing("spec.pretrain"))?;
    let protocols = recipe.knn.clone().unwrap_or_default();
    let datasets = Datasets::new(recipe, storage.runtime().clone());
    let train = datasets.train()?;
    let val = datasets.val(train.classes())?;
    let loader_threads = loader_threads(&recipe.dataset, rank);
    let evaluation = Evaluation { train, val, view: eval_view(&pretrain.augment), knn: &protocols, loader_threads };
    let latest = || {
        Checkpoints::new(storage.clone()).latest()?.ok_or_else(|| Error::Checkpoint {
            uri: storage.uri("checkpoints"),
            message: "there is no valid checkpoint to evaluate; run the pretrain stage first".into(),
        })
    };
    let found = if weights.is_some() { None } else { Some(latest()?) };
    let model = SimSiam::new(pretrain, Kind::Float, rank.device)?;
    let report = |features: &str, epoch, step, scores: &Vec<KnnScore>| {
        rank.sink.send(&Event::Knn { epoch, step, features: features.into(), scores: scores.clone() });
    };
    let untrained = evaluation.run(rank, &Features::Backbone(&model))?;
    report("untrained", 0, 0, &untrained);
    let (uri, epoch) = match (weights, &found) {
        (Some(weights), _) => {
            weights.fill_simsiam_backbone(model.params())?;
            (Some(weights.uri.clone()), weights.epochs.unwrap_or(0))
        }
        (None, Some(found)) => {
            snapshot::restore_model(model.params(), &found.model, &found.uri)?;
            (Some(found.uri.clone()), found.state.epoch)
        }
        (None, None) => (None, 0),
    };
    let step = found.map(|found| found.state.step);
    let trained = evaluation.run(rank, &Features::Backbone(&model))?;
    report("trained", epoch, step.unwrap_or(0), &trained);
    let pixels = if pixels {
        let scores = evaluation.run(rank, &Features::Pixels)?;
        report("pixels", 0, 0, &scores);
        Some(scores)
    } else {
        None
    };
    Ok(StageResult {
        epoch: Some(epoch),
        step,
        checkpoint: uri,
        knn: Some(trained),
        knn_untrained: Some(untrained),
        knn_pixels: pixels,
        ..StageResult::default()
    })
}
