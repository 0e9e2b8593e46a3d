//! The heads on top of the backbone: projector and predictor.

use tch::Tensor;

use super::layers::{Affine, BatchNorm, Linear};
use super::params::Init;
use super::pass::Pass;
use crate::error::Error;

/// Where a head has batch norms (section 4.4 of the paper).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norms {
    /// After every linear layer but the last, before the ReLU.
    pub hidden: bool,
    /// After the last linear layer, and what its weight starts at.
    pub output: Option<Affine>,
}

/// Linear layers with ReLU between, `[N, widths[0]] → [N, widths[last]]`.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<(Linear, Option<BatchNorm>)>,
}

impl Mlp {
    /// Indices follow the reference's `nn.Sequential`, whether the norms are there or not: linear 0, norm 1, ReLU 2,
    /// linear 3, …
    ///
    /// A hidden linear layer has a bias where no norm follows that would cancel it; the last one always has.
    pub fn new(mut init: Init, widths: &[i64], norms: Norms) -> Result<Self, Error> {
        let mut layers = Vec::new();
        for (i, pair) in widths.windows(2).enumerate() {
            let last = i + 2 == widths.len();
            let affine = if last { norms.output } else { norms.hidden.then_some(Affine::One) };
            let bias = last || affine.is_none();
            let linear = Linear::new(init.sub(3 * i), pair[0], pair[1], bias)?;
            let norm = match affine {
                Some(affine) => Some(BatchNorm::new(init.sub(3 * i + 1), pair[1], affine)?),
                None => None,
            };
            layers.push((linear, norm));
        }
        Ok(Self { layers })
    }

    /// The head's output for `x`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        let mut y = x.shallow_clone();
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            y = linear.forward(&y, pass)?;
            if let Some(norm) = norm {
                y = norm.forward(&y, pass)?;
            }
            if i + 1 < self.layers.len() {
                y = y.f_relu_()?;
            }
        }
        Ok(y)
    }
}
