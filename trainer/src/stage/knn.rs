//! The knn stage: classifies the validation images by their nearest neighbours among the training images.

use simsiam_contract::{KnnScore, StageResult};
use simsiam_recipe::Recipe;
use tch::Kind;

use crate::checkpoint::{Checkpoints, Found, require_latest, snapshot};
use crate::data::datasets::{Datasets, eval_view, loader_threads};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::knn::{Evaluation, FeatureSource};
use crate::model::SimSiam;
use crate::storage::Storage;
use crate::telemetry::{EncoderKind, Event};
use crate::weights::Weights;

/// Evaluates the encoder of `weights`, or else of the latest checkpoint, beside the untrained encoder and, with
/// `pixels`, raw pixels.
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
    let missing = || Error::missing("spec.pretrain", "the knn stage");
    let pretrain = recipe.pretrain.as_ref().ok_or_else(missing)?;
    let protocols = recipe.knn.clone().unwrap_or_default();
    let datasets = Datasets::new(recipe, storage.runtime().clone());
    let train = datasets.labelled_train()?;
    let val = datasets.val(train.classes())?;
    let loader_threads = loader_threads(&recipe.dataset, rank.info.threads);
    let evaluation = Evaluation {
        train,
        val,
        view: eval_view(&pretrain.augment),
        knn: &protocols,
        loader_threads,
        max_corrupt: recipe.dataset.max_corrupt,
    };
    let model = SimSiam::new(pretrain, Kind::Float, rank.device)?;
    let (uri, epoch, step) = match weights {
        Some(weights) => {
            weights.fill_simsiam_backbone(model.params())?;
            (weights.uri.clone(), weights.epochs.unwrap_or(0), None)
        }
        None => {
            let fill = |found: &Found| snapshot::restore_model(model.params(), &found.model, &found.uri);
            let tensors = model.params().entries().iter().map(|entry| &entry.tensor);
            let found = require_latest(rank, &Checkpoints::new(storage.clone()), "evaluate", fill, tensors)?;
            (found.uri, found.state.epoch, Some(found.state.step))
        }
    };
    let report = |features: EncoderKind, epoch, step, scores: &Vec<KnnScore>| {
        rank.sink.send(&Event::Knn { epoch, step, features, scores: scores.clone() });
    };
    let untrained = SimSiam::new(pretrain, Kind::Float, rank.device)?;
    let untrained = evaluation.run(rank, &FeatureSource::Backbone(&untrained))?;
    report(EncoderKind::Untrained, 0, 0, &untrained);
    let trained = evaluation.run(rank, &FeatureSource::Backbone(&model))?;
    report(EncoderKind::Trained, epoch, step.unwrap_or(0), &trained);
    let pixels = if pixels {
        let scores = evaluation.run(rank, &FeatureSource::Pixels)?;
        report(EncoderKind::Pixels, 0, 0, &scores);
        Some(scores)
    } else {
        None
    };
    Ok(StageResult {
        epoch: Some(epoch),
        step,
        checkpoint: Some(uri),
        knn: Some(trained),
        knn_untrained: Some(untrained),
        knn_pixels: pixels,
        ..StageResult::default()
    })
}
