//! Verifies that a frozen backbone does not change: every bit of it, the statistics of batch norm included. This module
//! owns that invariant; the linear stage reports nothing when it is violated.

use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::error::Error;

/// A digest of each tensor of a set.
#[derive(Debug)]
pub struct Fingerprint(Vec<(String, [u8; 32])>);

impl Fingerprint {
    /// Computes the digests of the tensors as they are now.
    pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Self, Error> {
        let digest = |(name, tensor): (&str, &Tensor)| {
            Ok((name.to_owned(), Sha256::digest(tch_ext::tensor_bytes(tensor)?).into()))
        };
        Ok(Self(tensors.into_iter().map(digest).collect::<Result<_, Error>>()?))
    }

    /// Compares the tensors with their digests.
    ///
    /// # Errors
    /// [`Error::BackboneChanged`] with the first tensor that differs.
    pub fn verify<'a>(&self, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), Error> {
        let now = Self::of(tensors)?;
        match self.0.iter().zip(&now.0).find(|(was, is)| was != is) {
            Some((was, _)) => Err(Error::BackboneChanged { name: was.0.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::{Arch, Pretrain, Stem};
    use tch::{Device, Kind};

    use super::*;
    use crate::model::Classifier;
    use crate::model::Pass;

    #[test]
    fn frozen_check_after_a_pass_in_training_mode_fails() {
        let recipe = Pretrain { arch: Arch::Resnet18, stem: Stem::Cifar, base_width: 4, ..Pretrain::default() };
        let mut network = Classifier::new(&recipe, 10, 0, Device::Cpu).unwrap();
        network.freeze_backbone();
        let before = Fingerprint::of(network.backbone_tensors()).unwrap();
        let images = Tensor::randn([4, 3, 8, 8], (Kind::Float, Device::Cpu));
        let _ = network.features(&images, Pass::EVAL).unwrap();
        before.verify(network.backbone_tensors()).unwrap();
        // Trains nothing, but the running mean of the first batch norm changes.
        let _ = tch::no_grad(|| network.features(&images, Pass::train(None)).unwrap());
        let error = before.verify(network.backbone_tensors()).unwrap_err();
        assert!(matches!(&error, Error::BackboneChanged { name } if name == "bn1.running_mean"), "{error}");
    }

    #[test]
    fn frozen_check_after_one_changed_value_fails() {
        let recipe = Pretrain { arch: Arch::Resnet18, stem: Stem::Cifar, base_width: 4, ..Pretrain::default() };
        let network = Classifier::new(&recipe, 10, 0, Device::Cpu).unwrap();
        let before = Fingerprint::of(network.backbone_tensors()).unwrap();
        let (_, variance) = network.backbone_tensors().find(|(name, _)| *name == "layer4.1.bn2.running_var").unwrap();
        let _ = variance.narrow(0, 3, 1).fill_(1.000_000_1);
        let error = before.verify(network.backbone_tensors()).unwrap_err();
        assert!(error.to_string().contains("layer4.1.bn2.running_var"), "{error}");
    }
}
