//! Layer-wise adaptive rates, as the LARC wrapper of NVIDIA's apex computes them without clipping
//! (LARS: You et al., arXiv 1708.03888).

use tch::{Kind, Tensor};

use crate::error::Error;

/// Keeps a rate finite when a gradient vanishes.
const EPSILON: f64 = 1e-8;

/// The gradient to pass to plain SGD without weight decay: (g + wd·p) · τ‖p‖ / (‖g‖ + wd‖p‖ + ε) if
/// neither ‖p‖ nor ‖g‖ is zero, else g itself, neither scaled nor decayed.
///
/// A bias that starts at zero therefore takes its first step at the full rate.
pub fn scaled(param: &Tensor, grad: &Tensor, trust: f64, weight_decay: f64) -> Result<Tensor, Error> {
    let param = param.f_detach()?;
    // At least in fp32.
    let wide = |t: &Tensor| if t.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let norm = |t: &Tensor| t.f_norm_scalaropt_dtype(2.0, wide(t));
    let (p, g) = (norm(&param)?, norm(grad)?);
    // All on the device: reading a norm would wait for it.
    let both = p.f_gt(0.0)?.f_logical_and(&g.f_gt(0.0)?)?;
    let divisor = g.f_add(&p.f_mul_scalar(weight_decay)?)?.f_add_scalar(EPSILON)?;
    let rate = p.f_mul_scalar(trust)?.f_div(&divisor)?;
    let scaled = grad.f_add(&param.f_mul_scalar(weight_decay)?)?.f_mul(&rate)?;
    Ok(scaled.f_where_self(&both, grad)?)
}
