//! Beginning with the weights of another file.

use super::PretrainTask;
use crate::error::Error;
use crate::training::sgd::Sgd;
use crate::training::task::Start;
use crate::weights;

/// Takes what `spec.weights` has of this network, if it is given: its backbone, its heads if it has them, and, if it has
/// the momentum of all of that, the epochs that it was trained for.
pub(super) fn begin(task: &mut PretrainTask, sgd: &Sgd) -> Result<Start, Error> {
    let Some(uri) = &task.recipe.weights else { return Ok(Start::default()) };
    let weights = weights::open("spec.weights", uri, &task.recipe.output, task.datasets.runtime())?;
    let heads = weights.fill_network(task.model.params())?;
    let whole = heads.projector && heads.predictor;
    let momentum = whole && weights.fill_optimizer(sgd)?;
    let epochs = u64::from(task.pretrain.epochs);
    // Weights that are trained to the end need no optimiser.
    let done = weights.epochs.filter(|&done| whole && (momentum || done >= epochs)).unwrap_or(0).min(epochs);
    let word = |taken| if taken { "taken" } else { "initialised" };
    tracing::info!(
        "beginning with {uri}: backbone taken, projector {}, predictor {}, momentum {}, {done} of {epochs} epochs done",
        word(heads.projector),
        word(heads.predictor),
        word(momentum),
    );
    Ok(Start { step: done * task.intervals.steps_per_epoch(), momentum })
}
