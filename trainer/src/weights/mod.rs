//! Weights to and from other programs' files: the reference's and MoCo's checkpoints, torchvision, timm, Detectron2,
//! safetensors, and this program's own checkpoints.
//!
//! Whatever a file is, it becomes [`Weights`] under the names of SimSiam's reference without `module.`
//! (`encoder.conv1.weight` … `encoder.fc.0.weight` … `predictor.3.bias`): [`open`](mod@open) fetches it, [`read`] recognises it
//! by its content, [`names`] has what others call the tensors, [`optimizer`] what PyTorch numbers them by. From there
//! [`fill`] takes a network's tensors and [`write`](mod@write) makes files.

pub mod architecture;
pub mod convert;
pub mod fill;
pub mod names;
pub mod open;
pub mod optimizer;

pub mod read;
pub mod write;

use std::collections::BTreeMap;

use simsiam_pth::Tensor;

pub use open::{open, open_in_place};
pub use optimizer::Optimizer;

use crate::error::Error;
use crate::model::simsiam::{ENCODER, PROJECTOR};

/// The content of a file, or of one of our checkpoints.
#[derive(Debug, Default)]
pub struct Weights {
    /// Where it lies.
    pub uri: String,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The architecture that the file says it is of, by torchvision's name.
    pub arch: Option<String>,
    /// Epochs that it was trained for.
    pub epochs: Option<u64>,
    /// The optimiser, if it is SimSiam's and fits the tensors.
    pub optimizer: Option<Optimizer>,
}

impl Weights {
    /// The backbone's tensors under torchvision's names, in torchvision's order.
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

    /// Every tensor in the order of PyTorch's `state_dict`.
    pub fn in_order(&self) -> Vec<(&str, &Tensor)> {
        let mut tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        tensors.sort_by_cached_key(|(name, _)| names::order(name));
        tensors
    }

    /// Names of the parameters in the order of PyTorch's `parameters()`.
    pub fn parameters(&self) -> Vec<&str> {
        self.in_order().into_iter().map(|(name, _)| name).filter(|name| names::is_parameter(name)).collect()
    }

    fn refused(&self, message: impl Into<String>) -> Error {
        Error::Checkpoint { uri: self.uri.clone(), message: message.into() }
    }
}
