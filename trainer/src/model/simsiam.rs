//! SimSiam (arXiv 2011.10566, section 3): encoder f = backbone + projector, predictor h, and the symmetrised
//! loss L = ½ D(p₁, stopgrad(z₂)) + ½ D(p₂, stopgrad(z₁)) with D the negative cosine similarity.

use simsiam_recipe::{Ablation, Pretrain};
use tch::{Device, Kind, Tensor};

use super::layers::{Affine, BatchNorm, Linear};
use super::{Init, Params, Pass, ResNet};
use crate::error::Error;

/// Linear layers with a batch norm after each, ReLU between.
#[derive(Debug)]
struct Projector {
    layers: Vec<(Linear, BatchNorm)>,
}

impl Projector {
    /// Indices follow the reference's `nn.Sequential`: linear 0, norm 1, ReLU 2, linear 3, …
    fn new(mut init: Init, count: i64, features: i64, hidden: i64, dim: i64) -> Result<Self, Error> {
        let mut layers = Vec::new();
        for i in 0..count {
            let last = i + 1 == count;
            let (input, output) = (if i == 0 { features } else { hidden }, if last { dim } else { hidden });
            let linear = Linear::new(init.sub(3 * i), input, output, last)?;
            let affine = if last { Affine::None } else { Affine::One };
            layers.push((linear, BatchNorm::new(init.sub(3 * i + 1), output, affine)?));
        }
        Ok(Self { layers })
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        let mut y = x.shallow_clone();
        for (i, (linear, bn)) in self.layers.iter().enumerate() {
            y = bn.forward(&linear.forward(&y)?, pass)?;
            if i + 1 < self.layers.len() {
                y = y.f_relu_()?;
            }
        }
        Ok(y)
    }
}

/// A bottleneck of two layers, dim → pred_dim → dim; no batch norm at the end (section 4.4 of the paper).
#[derive(Debug)]
struct Predictor {
    down: Linear,
    bn: BatchNorm,
    up: Linear,
}

impl Predictor {
    fn new(mut init: Init, dim: i64, hidden: i64) -> Result<Self, Error> {
        Ok(Self {
            down: Linear::new(init.sub(0), dim, hidden, false)?,
            bn: BatchNorm::new(init.sub(1), hidden, Affine::One)?,
            up: Linear::new(init.sub(3), hidden, dim, true)?,
        })
    }

    fn forward(&self, z: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.up.forward(&self.bn.forward(&self.down.forward(z)?, pass)?.f_relu_()?)
    }
}

/// What one step's forward pass gives.
#[derive(Debug)]
pub struct Outputs {
    /// The loss, a scalar.
    pub loss: Tensor,
    /// Projections of the two views, `[N, dim]` each.
    pub z: [Tensor; 2],
    /// Predictions of the two views, `[N, dim]` each; the projections themselves without a predictor.
    pub p: [Tensor; 2],
}

/// The siamese network.
#[derive(Debug)]
pub struct SimSiam {
    backbone: ResNet,
    projector: Projector,
    predictor: Option<Predictor>,
    stop_gradient: bool,
    params: Params,
}

/// First part of the names of everything that makes z of an image.
pub const ENCODER: &str = "encoder.";
/// First part of the names of everything that makes p of z.
pub const PREDICTOR: &str = "predictor.";
/// The projector within the encoder, in the place of torchvision's classifier.
pub const PROJECTOR: &str = "encoder.fc.";

impl SimSiam {
    /// Builds the network of `recipe` with its seed's initial values.
    pub fn new(recipe: &Pretrain, kind: Kind, device: Device) -> Result<Self, Error> {
        let mut params = Params::default();
        let mut init = Init::new(&mut params, recipe.seed, kind, device);
        let mut encoder = init.sub("encoder");
        let (layers, dim) = (i64::from(recipe.projector.layers), i64::from(recipe.dim));
        let backbone = ResNet::new(encoder.reborrow(), recipe.arch, recipe.stem, i64::from(recipe.base_width))?;
        let hidden = recipe.projector.hidden_dim.map_or(backbone.features(), i64::from);
        let projector = Projector::new(encoder.sub("fc"), layers, backbone.features(), hidden, dim)?;
        let predictor = match recipe.ablation {
            Ablation::NoPredictor => None,
            _ => Some(Predictor::new(init.sub("predictor"), dim, i64::from(recipe.pred_dim))?),
        };
        // The paper's last projector layer has no use for its bias, which the batch norm after it removes; the
        // reference keeps it at its initial value, and so do its checkpoints.
        params.freeze(&format!("{PROJECTOR}{}.bias", 3 * (layers - 1)));
        if recipe.ablation == Ablation::FixedPredictor {
            params.freeze(PREDICTOR);
        }
        let stop_gradient = recipe.ablation != Ablation::NoStopGradient;
        Ok(Self { backbone, projector, predictor, stop_gradient, params })
    }

    /// The network's tensors.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Pooled backbone features `[N, F]` of images `[N, 3, H, W]`.
    pub fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.backbone.forward(images, pass)
    }

    /// F, the width of [`features`](Self::features).
    pub fn feature_width(&self) -> i64 {
        self.backbone.features()
    }

    /// Projections z `[N, dim]` of images `[N, 3, H, W]`.
    pub fn project(&self, images: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.projector.forward(&self.backbone.forward(images, pass)?, pass)
    }

    /// Loss, projections and predictions of two views `[N, 3, H, W]` of the same N images.
    ///
    /// Each view goes through the encoder by itself, view 1 first, so each has its own batch statistics.
    pub fn forward(&self, views: [&Tensor; 2], pass: Pass) -> Result<Outputs, Error> {
        let z = [self.project(views[0], pass)?, self.project(views[1], pass)?];
        let predict = |z: &Tensor| match &self.predictor {
            Some(predictor) => predictor.forward(z, pass),
            None => Ok(z.shallow_clone()),
        };
        let p = [predict(&z[0])?, predict(&z[1])?];
        let target = |z: &Tensor| if self.stop_gradient { z.f_detach() } else { Ok(z.shallow_clone()) };
        let loss = (similarity(&p[0], &target(&z[1])?)? + similarity(&p[1], &target(&z[0])?)?) * -0.5;
        Ok(Outputs { loss, z, p })
    }
}

/// Mean cosine similarity of the rows of `p` and `z`, both `[N, dim]`; in fp32 at least.
fn similarity(p: &Tensor, z: &Tensor) -> Result<Tensor, Error> {
    let widen = |t: &Tensor| match t.kind() {
        Kind::BFloat16 | Kind::Half => t.f_to_kind(Kind::Float),
        _ => Ok(t.shallow_clone()),
    };
    Ok(Tensor::f_cosine_similarity(&widen(p)?, &widen(z)?, 1, 1e-8)?.f_mean(None::<Kind>)?)
}

/// Mean over channels of the standard deviation over samples of z/‖z‖, for z `[N, dim]`: near 1/√dim while
/// the representation is healthy, 0 when it has collapsed (section 4.1 and figure 2 of the paper).
pub fn output_std(z: &Tensor) -> Result<Tensor, Error> {
    let z = z.f_detach()?.f_to_kind(Kind::Float)?;
    let norm = z.f_norm_scalaropt_dim(2.0, [1], true)?.f_clamp_min(1e-12)?;
    Ok(z.f_div(&norm)?.f_std_dim([0i64].as_slice(), false, false)?.f_mean(None::<Kind>)?)
}

/// Effective rank of z `[N, dim]`: the exponential of the entropy of its centred singular values' shares
/// (Roy & Vetterli 2007), between 1 and min(N, dim).
pub fn effective_rank(z: &Tensor) -> Result<f64, Error> {
    let z = z.f_detach()?.f_to_kind(Kind::Double)?;
    let mean = z.f_mean_dim([0i64].as_slice(), true, Kind::Double)?;
    let singular = z.f_sub(&mean)?.f_svd(true, false)?.1;
    let total = singular.f_sum(Kind::Double)?.f_clamp_min(1e-300)?;
    let share = singular.f_div(&total)?;
    let entropy = -(share.f_mul(&share.f_clamp_min(1e-300)?.f_log()?)?.f_sum(Kind::Double)?);
    Ok(entropy.f_double_value(&[])?.exp())
}
