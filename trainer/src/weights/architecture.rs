//! Recognises the architecture of a backbone by its tensors.

use std::fmt;

use simsiam_pth::Tensor;
use simsiam_recipe::{Arch, Stem};

use super::state_dict::Weights;
use crate::model::resnet::Layout;

/// The architecture of a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// torchvision's name.
    pub arch: Arch,
    /// Channels of the first convolution; 64 in every published model.
    pub base_width: usize,
    /// Channels of the images; 3 in every published model.
    pub channels: usize,
    /// Kernel width of the first convolution: 7, or 3 in the stem for small images.
    pub stem: usize,
}

impl Architecture {
    /// The stem with that convolution.
    pub fn stem_name(&self) -> Option<Stem> {
        match self.stem {
            7 => Some(Stem::Imagenet),
            3 => Some(Stem::Cifar),
            _ => None,
        }
    }

    /// F, the width of the pooled features.
    pub fn features(&self) -> usize {
        Layout::of(self.arch).features(self.base_width as i64).unsigned_abs() as usize
    }

    /// Whether torchvision and timm have a model of this name and these shapes.
    pub fn is_published(&self) -> bool {
        self.is_in_timm() && self.channels == 3
    }

    /// Whether timm can make a model of these shapes, whose `in_chans` may be any number.
    pub fn is_in_timm(&self) -> bool {
        self.base_width == 64 && self.stem == 7
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.arch)?;
        if self.base_width != 64 {
            write!(f, " of baseWidth {}", self.base_width)?;
        }
        if self.stem == 3 {
            write!(f, " with the cifar stem")?;
        }
        if self.channels != 3 {
            write!(f, " for images of {}", counted(self.channels))?;
        }
        Ok(())
    }
}

/// A number of channels in words.
pub(super) fn counted(channels: usize) -> String {
    if channels == 1 { "1 channel".to_owned() } else { format!("{channels} channels") }
}

impl Weights {
    /// Recognises the architecture of the backbone; `None` if it is incomplete or unknown.
    pub fn architecture(&self) -> Option<Architecture> {
        let shape = |name: &str| self.tensors.get(&format!("encoder.{name}")).map(|t: &Tensor| t.shape.as_slice());
        let &[base_width, channels, _, stem] = shape("conv1.weight")? else { return None };
        let has = |stage, block| shape(&format!("layer{stage}.{block}.conv1.weight")).is_some();
        let blocks = [1, 2, 3, 4].map(|stage| (0..).take_while(|&block: &u32| has(stage, block)).count());
        let bottleneck = shape("layer1.0.conv3.weight").is_some();
        let &[width, input, ..] = shape("layer1.0.conv2.weight")? else { return None };
        let groups = width.checked_div(input)?;
        let width_per_group =
            if bottleneck { width.checked_mul(64)?.checked_div(base_width.checked_mul(groups)?)? } else { 64 };
        let (groups, width_per_group) = (i64::try_from(groups).ok()?, i64::try_from(width_per_group).ok()?);
        let found = Layout { bottleneck, blocks, groups, width_per_group };
        let arch = Arch::ALL.into_iter().find(|&arch| Layout::of(arch) == found)?;
        Some(Architecture { arch, base_width, channels, stem })
    }
}
