//! Convolution, linear layer and batch norm over [`Params`](super::Params).

use tch::Tensor;

use super::params::Init;
use super::pass::Pass;
use crate::error::Error;

/// A convolution without bias, `[N, in, H, W] → [N, out, H', W']`.
#[derive(Debug)]
pub struct Conv {
    name: String,
    weight: Tensor,
    stride: i64,
    padding: i64,
    groups: i64,
}

/// Geometry of a [`Conv`].
#[derive(Clone, Copy)]
pub struct ConvShape {
    /// Input channels.
    pub input: i64,
    /// Output channels.
    pub output: i64,
    /// Kernel height and width.
    pub kernel: i64,
    /// Step in pixels.
    pub stride: i64,
    /// Channel groups.
    pub groups: i64,
}

impl Conv {
    /// Registers `weight`.
    pub fn new(mut init: Init, shape: ConvShape) -> Result<Self, Error> {
        let dims = [shape.output, shape.input / shape.groups, shape.kernel, shape.kernel];
        Ok(Self {
            name: init.name(),
            weight: init.kaiming_normal_fan_out("weight", &dims)?,
            stride: shape.stride,
            padding: shape.padding(),
            groups: shape.groups,
        })
    }

    /// The convolution of `x`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let y = x.f_conv2d(&self.weight, None::<&Tensor>, stride, padding, [1, 1], self.groups)?;
        pass.seen(&self.name, y)
    }
}

impl ConvShape {
    /// Zeros around the image, so that stride 1 keeps its size.
    pub fn padding(self) -> i64 {
        self.kernel / 2
    }
}

/// A linear layer, `[N, in] → [N, out]`.
#[derive(Debug)]
pub struct Linear {
    name: String,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Registers `weight` and, where asked, `bias`, both with PyTorch's default initialisation.
    pub fn new(mut init: Init, input: i64, output: i64, bias: bool) -> Result<Self, Error> {
        Ok(Self {
            name: init.name(),
            weight: init.linear_uniform("weight", &[output, input], input)?,
            bias: if bias { Some(init.linear_uniform("bias", &[output], input)?) } else { None },
        })
    }

    /// A classifier on top of features: weight N(0, 0.01²), bias 0.
    pub fn classifier(mut init: Init, features: i64, classes: i64) -> Result<Self, Error> {
        let weight = init.normal("weight", &[classes, features], 0.01)?;
        let name = init.name();
        Ok(Self { name, weight, bias: Some(init.constant("bias", &[classes], 0.0)?) })
    }

    /// The linear map of `x`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        pass.seen(&self.name, x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// Batch norm over `[N, C, H, W]` or `[N, C]`, statistics per channel.
///
/// In training the statistics are those of the batch given (one view), over all ranks when the pass has a
/// process group; running statistics follow with momentum 0.1 and the unbiased variance, as in PyTorch.
#[derive(Debug)]
pub struct BatchNorm {
    name: String,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
}

/// What a batch norm's weight starts at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Affine {
    /// Weight 1, bias 0.
    One,
    /// Weight 0, bias 0: the last one of a residual block, so that the block starts as the identity
    /// (arXiv 1706.02677, section 5.1).
    Zero,
    /// Neither weight nor bias: the projector's last one (section 3 of the paper, "Baseline settings").
    None,
}

const MOMENTUM: f64 = 0.1;
/// Added to the variance, as in PyTorch.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

impl BatchNorm {
    /// Registers weight and bias (unless `Affine::None`) and the running statistics of `channels`.
    pub fn new(mut init: Init, channels: i64, affine: Affine) -> Result<Self, Error> {
        let (weight, bias) = match affine {
            Affine::None => (None, None),
            Affine::One | Affine::Zero => {
                let start = if affine == Affine::One { 1.0 } else { 0.0 };
                (Some(init.constant("weight", &[channels], start)?), Some(init.constant("bias", &[channels], 0.0)?))
            }
        };
        Ok(Self {
            name: init.name(),
            weight,
            bias,
            running_mean: init.buffer("running_mean", &[channels], 0.0)?,
            running_var: init.buffer("running_var", &[channels], 1.0)?,
            batches: init.counter("num_batches_tracked")?,
        })
    }

    /// `x` normalised.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        let (weight, bias) = (self.weight.as_ref(), self.bias.as_ref());
        let (mut mean, mut var) = (self.running_mean.shallow_clone(), self.running_var.shallow_clone());
        if pass.train && pass.track {
            // The counter has its own storage, which the shallow copy shares.
            let _ = self.batches.shallow_clone().f_add_scalar_(1)?;
        } else if pass.train {
            // The update goes into copies that are discarded.
            (mean, var) = (mean.f_detach_copy()?, var.f_detach_copy()?);
        }
        if let (true, Some(group)) = (pass.train, pass.group) {
            let y = tch_ext::sync_batch_norm(x, weight, bias, &mean, &var, MOMENTUM, BATCH_NORM_EPSILON, group)?;
            return pass.seen(&self.name, y);
        }
        let (mean, var) = (Some(&mean), Some(&var));
        let y = x.f_batch_norm(weight, bias, mean, var, pass.train, MOMENTUM, BATCH_NORM_EPSILON, true)?;
        pass.seen(&self.name, y)
    }
}
