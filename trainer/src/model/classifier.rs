//! A backbone with a classifier instead of the projector: torchvision's ResNet, under torchvision's names.

use simsiam_recipe::Pretrain;
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::model::layers::Linear;
use crate::model::params::{Init, Params};
use crate::model::pass::Pass;
use crate::model::resnet::ResNet;

/// First part of the classifier's names.
pub const CLASSIFIER: &str = "fc.";

/// The network.
#[derive(Debug)]
pub struct Classifier {
    backbone: ResNet,
    fc: Linear,
    params: Params,
}

impl Classifier {
    /// The architecture of `pretrain` with a classifier of `classes`, initialised by `seed`.
    pub fn new(pretrain: &Pretrain, classes: usize, seed: u64, device: Device) -> Result<Self, Error> {
        let mut params = Params::default();
        let mut init = Init::new(&mut params, seed, Kind::Float, device);
        let backbone = ResNet::of(init.reborrow(), pretrain)?;
        let fc = Linear::classifier(init.sub("fc"), backbone.features(), classes as i64)?;
        Ok(Self { backbone, fc, params })
    }

    /// Stops training everything but the classifier.
    pub fn freeze_backbone(&mut self) {
        self.params.freeze_where(|name| !name.starts_with(CLASSIFIER));
    }

    /// The backbone's parameters and buffers.
    pub fn backbone_tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors().filter(|(name, _)| !name.starts_with(CLASSIFIER))
    }

    /// The classifier's parameters.
    pub fn classifier_tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors().filter(|(name, _)| name.starts_with(CLASSIFIER))
    }

    /// All of them, in torchvision's order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.params.entries().iter().map(|e| (e.name.as_str(), &e.tensor))
    }

    /// The network's tensors.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// F, the backbone's feature width.
    pub fn feature_width(&self) -> i64 {
        self.backbone.features()
    }

    /// Pooled features `[N, F]` of images `[N, C, H, W]`.
    pub fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.backbone.forward(images, pass)
    }

    /// Logits `[N, classes]` of features `[N, F]`.
    pub fn classify(&self, features: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        self.fc.forward(features, pass)
    }
}
