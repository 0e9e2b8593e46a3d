//! The optimiser step of stochastic gradient descent with momentum.

use tch::Tensor;

use crate::error::{Error, Result, check};
use crate::ffi;
use crate::raw::raw_all;

/// One step of `torch.optim.SGD` (no dampening, no Nesterov) on all parameters, in place:
/// `d = grad + weight_decay p`, `buf = d` in the first step and `momentum buf + d` later, `p -= lr buf`. With momentum 0
/// there is no buffer, and `momentum_buffers` may be empty. Gradients are not changed.
///
/// Parameters whose gradient and buffer have their type and layout go through PyTorch's fused kernel, all others through
/// plain operators with the same result up to rounding. Buffers made with `zeros_like` have the right layout.
///
/// # Errors
/// When the three lists do not fit one another or a gradient is not defined.
pub fn fused_sgd(
    params: &[Tensor],
    grads: &[Tensor],
    momentum_buffers: &[Tensor],
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    first_step: bool,
) -> Result<()> {
    const OP: &str = "fused SGD";
    if grads.len() != params.len() || (momentum != 0.0 && momentum_buffers.len() != params.len()) {
        return Err(Error::argument(
            OP,
            format!("{} parameters, {} gradients, {} buffers", params.len(), grads.len(), momentum_buffers.len()),
        ));
    }
    let (params, grads, buffers) = (raw_all(params), raw_all(grads), raw_all(momentum_buffers));
    // SAFETY: the arrays have the lengths that were just checked; with momentum 0 the shim does not look at buffers.
    check(OP, |message| unsafe {
        ffi::tchx_fused_sgd(
            params.as_ptr(),
            grads.as_ptr(),
            buffers.as_ptr(),
            params.len(),
            lr,
            momentum,
            weight_decay,
            first_step,
            message,
        )
    })
}
