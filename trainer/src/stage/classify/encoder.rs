//! The encoder that a classifier is trained on.

use simsiam_recipe::Pretrain;
use tch::{Device, Kind};

use crate::checkpoint::{Checkpoints, Found, require_latest, snapshot, store};
use crate::dist::Rank;
use crate::error::Error;
use crate::model::{Classifier, SimSiam};
use crate::storage::Storage;
use crate::weights::Weights;

/// The encoder that a classifier is trained on.
#[derive(Clone, Copy, Debug)]
pub enum Encoder<'a> {
    /// That of the latest valid checkpoint.
    Trained,
    /// That of other weights, which are not the run's: rank 0 has them, the other ranks `None`.
    Other(Option<&'a Weights>),
    /// As it was initialised: the baseline of the architecture alone.
    Untrained,
}

/// Fills the network's backbone on every rank; returns the address of the encoder and the SHA-256 of its weights. `stage`
/// is the stage that evaluates it.
pub(super) fn load(
    rank: &Rank,
    encoder: Encoder,
    stage: &str,
    storage: &Storage,
    pretrain: &Pretrain,
    network: &Classifier,
) -> Result<(String, String), Error> {
    let backbone = || network.backbone_tensors().map(|(_, tensor)| tensor);
    match encoder {
        Encoder::Trained => {
            let checkpoints = Checkpoints::new(storage.clone());
            let fill = |found: &Found| snapshot::restore_backbone(network.backbone_tensors(), &found.model, &found.uri);
            let found = require_latest(rank, &checkpoints, "evaluate", fill, backbone())?;
            if rank.is_first() && found.state.epoch < u64::from(pretrain.epochs) {
                tracing::warn!(
                    "{stage} evaluates {}, of epoch {} of {}: pre-training has not finished",
                    found.uri,
                    found.state.epoch,
                    pretrain.epochs
                );
            }
            Ok((found.uri, found.model_sha256))
        }
        Encoder::Other(weights) => {
            let source = rank.on_rank_0("reading --weights", || {
                let weights = weights.ok_or_else(|| Error::Internal("rank 0 did not read --weights".into()))?;
                weights.fill_backbone(network.backbone_tensors())?;
                let file = snapshot::tensor_file(network.backbone_tensors())?;
                Ok((weights.uri.clone(), store::sha256(&file)))
            })?;
            rank.broadcast(backbone(), "the broadcast of the encoder")?;
            Ok(source)
        }
        Encoder::Untrained => {
            // Every rank draws the same values from the seed.
            let model = SimSiam::new(pretrain, Kind::Float, Device::Cpu)?;
            let (model, uri) = (snapshot::model_file(model.params())?, "the untrained encoder");
            snapshot::restore_backbone(network.backbone_tensors(), &model, uri)?;
            Ok((uri.to_owned(), store::sha256(&model)))
        }
    }
}
