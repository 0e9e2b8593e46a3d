//! The encoder that a classifier is trained on.

use simsiam_recipe::Pretrain;
use tch::{Device, Kind};

use super::task::Request;
use crate::checkpoint::{Checkpoints, snapshot, store};
use crate::error::Error;
use crate::model::Classifier;
use crate::model::SimSiam;
use crate::weights::Weights;

/// The encoder that a classifier is trained on.
#[derive(Clone, Copy, Debug)]
pub enum Encoder<'a> {
    /// That of the latest valid checkpoint.
    Trained,
    /// That of other weights, which are not the run's.
    Other(&'a Weights),
    /// As it was initialised: the baseline of the architecture alone.
    Untrained,
}

/// Fills the network's backbone; returns its address and the SHA-256 of its weights.
pub(super) fn load(request: &Request, pretrain: &Pretrain, network: &Classifier) -> Result<(String, String), Error> {
    let (uri, model) = match request.encoder {
        Encoder::Trained => trained(request, pretrain)?,
        Encoder::Other(weights) => {
            weights.fill_backbone(network.backbone_tensors())?;
            let file = snapshot::tensor_file(network.backbone_tensors())?;
            return Ok((weights.uri.clone(), store::sha256(&file)));
        }
        Encoder::Untrained => {
            let model = SimSiam::new(pretrain, Kind::Float, Device::Cpu)?;
            ("the untrained encoder".to_owned(), snapshot::model_file(model.params())?)
        }
    };
    network.restore_backbone(&model, &uri)?;
    Ok((uri, store::sha256(&model)))
}

/// The latest valid checkpoint's address and `model.safetensors`.
fn trained(request: &Request, pretrain: &Pretrain) -> Result<(String, Vec<u8>), Error> {
    let found = Checkpoints::new(request.storage.clone()).latest()?.ok_or_else(|| Error::Checkpoint {
        uri: request.storage.uri("checkpoints"),
        message: "there is no valid checkpoint to evaluate; run the pretrain stage first".into(),
    })?;
    if found.state.epoch < u64::from(pretrain.epochs) {
        tracing::warn!(
            "{} evaluates {}, of epoch {} of {}: pre-training is not finished",
            request.protocol.name(),
            found.uri,
            found.state.epoch,
            pretrain.epochs
        );
    }
    Ok((found.uri, found.model))
}
