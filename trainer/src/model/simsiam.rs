//! SimSiam (arXiv 2011.10566, section 3): encoder f = backbone + projector, predictor h, and the symmetrised
//! loss L = ½ D(p₁, stopgrad(z₂)) + ½ D(p₂, stopgrad(z₁)) with D the negative cosine similarity; and what the paper's
//! ablations make of it (sections 4 and 5).

use simsiam_recipe::{Ablation, Pretrain};
use tch::{Device, Kind, Tensor};

use super::layers::Affine;
use super::loss::{cross_entropy, negative_cosine};
use super::mlp::{Mlp, Norms};
use super::params::{Init, Params};
use super::pass::Pass;
use super::resnet::ResNet;
use crate::error::Error;

/// What one step's forward pass gives.
#[derive(Debug)]
pub struct Outputs {
    /// The loss, a scalar.
    pub loss: Tensor,
    /// Projections of the two views, `[N, dim]` each.
    pub z: [Tensor; 2],
    /// Predictions, `[N, dim]` each: view 1's and, in a symmetrised loss, view 2's; the projections themselves without
    /// a predictor.
    pub p: Vec<Tensor>,
}

/// The siamese network.
#[derive(Debug)]
pub struct SimSiam {
    backbone: ResNet,
    projector: Mlp,
    predictor: Option<Mlp>,
    ablation: Ablation,
    params: Params,
}

/// First part of the names of everything that makes z of an image.
pub const ENCODER: &str = "encoder.";
/// First part of the names of everything that makes p of z.
pub const PREDICTOR: &str = "predictor.";
/// The projector within the encoder, instead of torchvision's classifier.
pub const PROJECTOR: &str = "encoder.fc.";

impl SimSiam {
    /// Builds the network of `recipe`, initialised by its seed.
    pub fn new(recipe: &Pretrain, kind: Kind, device: Device) -> Result<Self, Error> {
        let mut params = Params::default();
        let mut init = Init::new(&mut params, recipe.seed, kind, device);
        let mut encoder = init.sub("encoder");
        let backbone = ResNet::of(encoder.reborrow(), recipe)?;
        let (features, dim) = (backbone.features(), i64::from(recipe.dim));
        let hidden = recipe.projector.hidden_dim.map_or(features, i64::from);
        let layers = recipe.projector.layers as usize;
        let mut widths = vec![hidden; layers + 1];
        (widths[0], widths[layers]) = (features, dim);
        let (projector_norms, predictor_norms) = norms(recipe.ablation);
        let projector = Mlp::new(encoder.sub("fc"), &widths, projector_norms)?;
        let predictor = match recipe.ablation {
            Ablation::NoPredictor => None,
            _ => {
                let widths = [dim, i64::from(recipe.pred_dim), dim];
                Some(Mlp::new(init.sub("predictor"), &widths, predictor_norms)?)
            }
        };
        // A last layer has no use for its bias where a batch norm removes it again; the reference keeps the projector's
        // at its initial value, and so do its checkpoints.
        if projector_norms.output.is_some() {
            params.freeze(&format!("{PROJECTOR}{}.bias", 3 * (layers - 1)));
        }
        if predictor_norms.output.is_some() {
            params.freeze(&format!("{PREDICTOR}3.bias"));
        }
        if recipe.ablation == Ablation::FixedPredictor {
            params.freeze(PREDICTOR);
        }
        Ok(Self { backbone, projector, predictor, ablation: recipe.ablation, params })
    }

    /// The network's tensors.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Pooled backbone features `[N, F]` of images `[N, C, H, W]`.
    pub fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.backbone.forward(images, pass)
    }

    /// The backbone's feature maps of images `[N, C, H, W]`, one for each stage.
    pub fn feature_maps(&self, images: &Tensor, pass: Pass) -> Result<Vec<Tensor>, Error> {
        self.backbone.feature_maps(images, pass)
    }

    /// F, the width of [`features`](Self::features).
    pub fn feature_width(&self) -> i64 {
        self.backbone.features()
    }

    /// Projections z `[N, dim]` of images `[N, C, H, W]`.
    pub fn project(&self, images: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.projector.forward(&self.backbone.forward(images, pass)?, pass)
    }

    /// Loss, projections and predictions of two views `[N, C, H, W]` of the same N images.
    ///
    /// Each view goes through the encoder by itself, view 1 first, so each has its own batch statistics.
    pub fn forward(&self, views: [&Tensor; 2], pass: Pass) -> Result<Outputs, Error> {
        let z = self.projections(views, pass)?;
        let targets = match self.ablation {
            Ablation::NoStopGradient => [z[0].shallow_clone(), z[1].shallow_clone()],
            _ => [z[0].f_detach()?, z[1].f_detach()?],
        };
        self.compare(z, [&targets[0], &targets[1]], pass)
    }

    /// As [`forward`](Self::forward), but the predictions are compared with `targets`, projections of the two views that
    /// were computed before (section 5 of the paper).
    pub fn forward_towards(&self, views: [&Tensor; 2], targets: [&Tensor; 2], pass: Pass) -> Result<Outputs, Error> {
        self.compare(self.projections(views, pass)?, targets, pass)
    }

    /// Projections of two views as targets for later steps: with batch statistics, as in training, but without a trace
    /// in the running ones, and without gradients.
    pub fn targets(&self, views: [&Tensor; 2], pass: Pass) -> Result<[Tensor; 2], Error> {
        let pass = Pass { track: false, ..pass };
        tch::no_grad(|| Ok([self.project(views[0], pass)?, self.project(views[1], pass)?]))
    }

    fn projections(&self, views: [&Tensor; 2], pass: Pass) -> Result<[Tensor; 2], Error> {
        let first = self.project(views[0], pass)?;
        // A view that predicts nothing needs no gradients, and no memory for them. It comes after the one that does:
        // autocast keeps the casts of weights, with or without their gradients.
        let second = if self.symmetric() {
            self.project(views[1], pass)?
        } else {
            tch::no_grad(|| self.project(views[1], pass))?
        };
        Ok([first, second])
    }

    fn compare(&self, z: [Tensor; 2], targets: [&Tensor; 2], pass: Pass) -> Result<Outputs, Error> {
        let predict = |z: &Tensor| match &self.predictor {
            Some(predictor) => predictor.forward(z, pass),
            None => Ok(z.shallow_clone()),
        };
        let distance = match self.ablation {
            Ablation::CrossEntropy => cross_entropy,
            _ => negative_cosine,
        };
        let mut p = vec![predict(&z[0])?];
        if self.symmetric() {
            p.push(predict(&z[1])?);
        }
        let mut loss = distance(&p[0], targets[1])?;
        if let Some(second) = p.get(1) {
            loss = loss.f_add(&distance(second, targets[0])?)?.f_mul_scalar(0.5)?;
        }
        Ok(Outputs { loss, z, p })
    }

    /// Whether each view predicts the other.
    fn symmetric(&self) -> bool {
        !matches!(self.ablation, Ablation::Asymmetric | Ablation::AsymmetricDouble)
    }
}

/// The batch norms of projector and predictor (section 4.4 and table 3 of the paper). The predictor's output has one
/// with weight and bias, as batch norms have by default; the paper does not say.
fn norms(ablation: Ablation) -> (Norms, Norms) {
    let hidden_only = Norms { hidden: true, output: None };
    let projector = Norms { hidden: true, output: Some(Affine::None) };
    match ablation {
        Ablation::BatchNormNone => (Norms { hidden: false, output: None }, Norms { hidden: false, output: None }),
        Ablation::BatchNormHidden => (hidden_only, hidden_only),
        Ablation::BatchNormAll => (projector, Norms { hidden: true, output: Some(Affine::One) }),
        _ => (projector, hidden_only),
    }
}

/// Mean over channels of the standard deviation over samples of z/‖z‖, for z `[N, dim]`: near 1/√dim while
/// the representation is healthy, 0 when it has collapsed (section 4.1 and figure 2 of the paper).
pub fn output_std(z: &Tensor) -> Result<Tensor, Error> {
    let z = z.f_detach()?.f_to_kind(Kind::Float)?;
    let norm = z.f_norm_scalaropt_dim(2.0, [1], true)?.f_clamp_min(1e-12)?;
    Ok(z.f_div(&norm)?.f_std_dim([0i64].as_slice(), false, false)?.f_mean(None::<Kind>)?)
}

/// How the projections of a batch spread over directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spectrum {
    /// The exponential of the entropy of the singular values' shares (Roy & Vetterli 2007), between 1 and min(N, dim).
    pub effective_rank: f64,
    /// Area under the cumulative share of the singular values (arXiv 2209.15007, "cumulative explained variance") over
    /// the min(N − 1, dim) directions that N centred rows can have: 0.5 if all are used evenly, 1 if only one is.
    pub explained_variance_auc: f64,
}

/// The spectrum of z `[N, dim]` after centring. Computed on the CPU: in fp64 a GPU's solver is no faster, and it would
/// bring more libraries and memory into a training step.
pub fn spectrum(z: &Tensor) -> Result<Spectrum, Error> {
    let z = z.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let mean = z.f_mean_dim([0i64].as_slice(), true, Kind::Double)?;
    let singular = z.f_sub(&mean)?.f_svd(true, false)?.1;
    let total = singular.f_sum(Kind::Double)?.f_clamp_min(1e-300)?;
    let share = singular.f_div(&total)?;
    let entropy = -(share.f_mul(&share.f_clamp_min(1e-300)?.f_log()?)?.f_sum(Kind::Double)?);
    let directions = (z.size()[0] - 1).clamp(1, z.size()[1].max(1)) as usize;
    Ok(Spectrum {
        effective_rank: entropy.f_double_value(&[])?.exp(),
        explained_variance_auc: area_of_cumulative(&Vec::<f64>::try_from(&share)?, directions),
    })
}

/// Area under the cumulative sum of the first `count` of `shares`, largest first, over an axis from 0 to 1, by the
/// trapezoidal rule. Rows that are all the same have no shares; they use no direction more than one, so 1.
fn area_of_cumulative(shares: &[f64], count: usize) -> f64 {
    if shares.iter().sum::<f64>() == 0.0 {
        return 1.0;
    }
    let (mut sum, mut area) = (0.0, 0.0);
    for share in shares.iter().take(count) {
        area += sum + share / 2.0;
        sum += share;
    }
    area / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spectrum of rows ±`scale[i]` along each axis, whose mean is 0.
    fn of(scales: &[f64]) -> Spectrum {
        let dim = scales.len();
        let mut rows = vec![0.0; 2 * dim * dim];
        for (i, scale) in scales.iter().enumerate() {
            (rows[2 * i * dim + i], rows[(2 * i + 1) * dim + i]) = (*scale, -scale);
        }
        spectrum(&Tensor::from_slice(&rows).reshape([2 * dim as i64, dim as i64])).unwrap()
    }

    #[test]
    fn spectrum_of_known_directions_has_their_rank_and_area() {
        for (scales, rank, area) in [
            ([1.0, 1.0, 1.0, 1.0], 4.0, 0.5),
            ([1.0, 1.0, 0.0, 0.0], 2.0, 0.75),
            ([1.0, 0.0, 0.0, 0.0], 1.0, 0.875),
            ([0.0, 0.0, 0.0, 0.0], 1.0, 1.0),
        ] {
            let Spectrum { effective_rank, explained_variance_auc } = of(&scales);
            assert!((effective_rank - rank).abs() < 1e-9, "{scales:?}: {effective_rank}");
            assert!((explained_variance_auc - area).abs() < 1e-9, "{scales:?}: {explained_variance_auc}");
        }
    }

    #[test]
    fn spectrum_of_fewer_rows_than_dimensions_counts_the_directions_they_can_have() {
        // Two rows have one direction; as it is the only one possible, it is used evenly.
        let two = spectrum(&Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0, 2.0, 3.0]).reshape([2, 3])).unwrap();
        assert!((two.explained_variance_auc - 0.5).abs() < 1e-9 && (two.effective_rank - 1.0).abs() < 1e-6, "{two:?}");
    }
}
