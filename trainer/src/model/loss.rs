//! D(p, z): how far predictions are from their targets. Gradients flow into both; the caller detaches z to stop them.

use tch::{Kind, Tensor};

use crate::error::Error;

/// Minus the mean cosine similarity of the rows of `p` and `z`, both `[N, dim]` (equation 1 of the paper); in fp32 at
/// least.
pub fn negative_cosine(p: &Tensor, z: &Tensor) -> Result<Tensor, Error> {
    Ok(Tensor::f_cosine_similarity(&wide(p)?, &wide(z)?, 1, 1e-8)?.f_mean(None::<Kind>)?.f_neg()?)
}

/// Mean over the rows of −softmax(z)·log softmax(p), each softmax over the channels of `[N, dim]` (section 4.5 of the
/// paper): between 0 and ∞, log dim where all channels are alike; in fp32 at least.
pub fn cross_entropy(p: &Tensor, z: &Tensor) -> Result<Tensor, Error> {
    let (p, z) = (wide(p)?, wide(z)?);
    let terms = z.f_softmax(1, p.kind())?.f_mul(&p.f_log_softmax(1, p.kind())?)?;
    Ok(terms.f_sum_dim_intlist([1i64].as_slice(), false, p.kind())?.f_mean(None::<Kind>)?.f_neg()?)
}

fn wide(tensor: &Tensor) -> Result<Tensor, Error> {
    Ok(match tensor.kind() {
        Kind::BFloat16 | Kind::Half => tensor.f_to_kind(Kind::Float)?,
        _ => tensor.shallow_clone(),
    })
}
