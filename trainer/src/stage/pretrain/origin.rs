//! Starting from the weights of another file.

use crate::error::Error;
use crate::model::Params;
use crate::training::sgd::Sgd;
use crate::training::task::Start;
use crate::weights::Weights;

/// Takes what `weights` have of this network: its backbone, its heads if they have them, and, if they have the momentum of
/// all of that, the epochs that they were trained for.
pub(super) fn begin(
    weights: &Weights,
    params: &Params,
    sgd: &Sgd,
    epochs: u32,
    steps_per_epoch: u64,
) -> Result<Start, Error> {
    let heads = weights.fill_network(params)?;
    // A first convolution for other channels is not the trained one.
    let whole = heads.projector && heads.predictor && !heads.adapted;
    let momentum = whole && weights.fill_momentum(sgd.buffers())?;
    let epochs = u64::from(epochs);
    // Weights that are trained to the end need no optimiser.
    let done = weights.epochs.filter(|&done| whole && (momentum || done >= epochs)).unwrap_or(0).min(epochs);
    let word = |loaded| if loaded { "loaded" } else { "initialised" };
    tracing::info!(
        "starting from {}: backbone loaded, projector {}, predictor {}, momentum {}, {done} of {epochs} epochs done",
        weights.uri,
        word(heads.projector),
        word(heads.predictor),
        word(momentum),
    );
    Ok(Start { step: done * steps_per_epoch, momentum })
}
