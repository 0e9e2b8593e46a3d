//! [`Weights`]: the tensors of a file under the names of SimSiam's reference.

use std::collections::BTreeMap;

use simsiam_pth::Tensor;

use super::names;
use super::optimizer::OptimizerState;
use crate::error::Error;
use crate::model::simsiam::{ENCODER, PROJECTOR};

/// Per-channel mean and standard deviation of images with values from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// What is subtracted.
    pub mean: Vec<f64>,
    /// What the difference is divided by.
    pub std: Vec<f64>,
}

/// The content of a weights file, or of a checkpoint of a run.
#[derive(Debug, Default)]
pub struct Weights {
    /// Its address.
    pub uri: String,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The architecture that the file names, by torchvision's name.
    pub arch: Option<String>,
    /// Number of epochs it was trained for.
    pub epochs: Option<u64>,
    /// How images were normalised in training, if the file says.
    pub normalization: Option<Normalization>,
    /// The optimiser, if it is SimSiam's and fits the tensors.
    pub optimizer: Option<OptimizerState>,
}

impl Weights {
    /// Returns the backbone's tensors under torchvision's names, in torchvision's order.
    pub fn backbone(&self) -> Vec<(&str, &Tensor)> {
        let mut tensors: Vec<_> = self
            .tensors
            .iter()
            .filter(|(name, _)| !name.starts_with(PROJECTOR))
            .filter_map(|(name, tensor)| Some((name.strip_prefix(ENCODER)?, tensor)))
            .collect();
        tensors.sort_by_cached_key(|(name, _)| names::order(name));
        tensors
    }

    /// Returns every tensor in the order of PyTorch's `state_dict`.
    pub fn in_order(&self) -> Vec<(&str, &Tensor)> {
        let mut tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        tensors.sort_by_cached_key(|(name, _)| names::order(name));
        tensors
    }

    /// Returns the names of the parameters in the order of PyTorch's `parameters()`.
    pub fn parameters(&self) -> Vec<&str> {
        self.in_order().into_iter().map(|(name, _)| name).filter(|name| names::is_parameter(name)).collect()
    }

    /// Keeps an optimiser's state if each of its buffers has the shape of its parameter.
    pub(super) fn take_optimizer(&mut self, optimizer: Option<OptimizerState>) {
        let shape = |name: &String| self.tensors.get(name).map(|tensor| &tensor.shape);
        let fits = |state: &OptimizerState| state.momentum.iter().all(|(name, b)| shape(name) == Some(&b.shape));
        self.optimizer = optimizer.filter(fits);
    }

    pub(super) fn refused(&self, message: impl Into<String>) -> Error {
        Error::Checkpoint { uri: self.uri.clone(), message: message.into() }
    }
}
