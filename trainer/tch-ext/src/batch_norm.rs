//! Batch normalisation over all ranks.

use tch::Tensor;

use crate::c10d::ProcessGroup;
use crate::error::Result;
use crate::ffi;
use crate::raw::{one_tensor, raw, raw_or_null};

/// Training-mode batch normalisation of `x` (`[N, C]` or `[N, C, ...]`) with the statistics of all ranks' batches, which
/// may differ in size. Differentiable in `x`, `weight` and `bias` (each `[C]`).
///
/// `running_mean` and `running_var` (`[C]`) are updated: `r = (1 - momentum) r + momentum s`, with the unbiased variance
/// (n / (n - 1), n counted over all ranks). Statistics are computed in fp32, or in fp64 for fp64 inputs, and combined over
/// ranks in fp64 on the CPU. The gradients of `weight` and `bias` are this rank's share: a
/// [`crate::c10d::Reducer`] averages them like all others.
///
/// Forward and backward are collectives: every rank must run them in the same order.
///
/// # Errors
/// When shapes do not fit, when there is one value per channel only, or when a peer is lost.
#[allow(clippy::too_many_arguments)]
pub fn sync_batch_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    running_mean: &Tensor,
    running_var: &Tensor,
    momentum: f64,
    eps: f64,
    pg: &ProcessGroup,
) -> Result<Tensor> {
    // SAFETY: all tensors and the group are alive during the call; autograd keeps references of its own.
    one_tensor("sync batch norm", |out, message| unsafe {
        ffi::tchx_sync_batch_norm(
            pg.raw(),
            raw(x),
            raw_or_null(weight),
            raw_or_null(bias),
            raw(running_mean),
            raw(running_var),
            momentum,
            eps,
            out,
            message,
        )
    })
}
