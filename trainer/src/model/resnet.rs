//! torchvision's ResNets (He et al., arXiv 1512.03385; wide: 1605.07146; ResNeXt: 1611.05431), layer by layer
//! under torchvision's names, with zero-initialised last batch norms.

use simsiam_recipe::{Arch, Pretrain, Stem};
use tch::Tensor;

use super::layers::{Affine, BatchNorm, Conv, ConvShape};
use super::params::Init;
use super::pass::Pass;
use crate::error::Error;

/// What distinguishes one architecture from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Three convolutions a block and four times the width at its end, or two.
    pub bottleneck: bool,
    /// Blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Groups of the 3×3 convolution (ResNeXt).
    pub groups: i64,
    /// Width of a bottleneck's 3×3 convolution for 64 planes.
    pub width_per_group: i64,
}

impl Layout {
    /// The layout of a named architecture.
    pub fn of(arch: Arch) -> Self {
        let basic = |blocks| Self { bottleneck: false, blocks, groups: 1, width_per_group: 64 };
        let deep = |blocks, groups, width_per_group| Self { bottleneck: true, blocks, groups, width_per_group };
        match arch {
            Arch::Resnet18 => basic([2, 2, 2, 2]),
            Arch::Resnet34 => basic([3, 4, 6, 3]),
            Arch::Resnet50 => deep([3, 4, 6, 3], 1, 64),
            Arch::Resnet101 => deep([3, 4, 23, 3], 1, 64),
            Arch::Resnet152 => deep([3, 8, 36, 3], 1, 64),
            Arch::WideResnet50_2 => deep([3, 4, 6, 3], 1, 128),
            Arch::WideResnet101_2 => deep([3, 4, 23, 3], 1, 128),
            Arch::Resnext50_32x4d => deep([3, 4, 6, 3], 32, 4),
            Arch::Resnext101_32x8d => deep([3, 4, 23, 3], 32, 8),
            Arch::Resnext101_64x4d => deep([3, 4, 23, 3], 64, 4),
        }
    }

    fn expansion(self) -> i64 {
        if self.bottleneck { 4 } else { 1 }
    }

    /// Width of the pooled features.
    pub fn features(self, base_width: i64) -> i64 {
        8 * base_width * self.expansion()
    }

    fn block(self, input: i64, planes: i64, stride: i64) -> BlockShapes {
        let output = planes * self.expansion();
        let convs = if self.bottleneck {
            // For `baseWidth` 64 this is torchvision's `planes * base_width / 64 * groups`.
            let width = planes * self.width_per_group / 64 * self.groups;
            vec![
                ConvShape { input, output: width, kernel: 1, stride: 1, groups: 1 },
                ConvShape { input: width, output: width, kernel: 3, stride, groups: self.groups },
                ConvShape { input: width, output, kernel: 1, stride: 1, groups: 1 },
            ]
        } else {
            vec![
                ConvShape { input, output, kernel: 3, stride, groups: 1 },
                ConvShape { input: output, output, kernel: 3, stride: 1, groups: 1 },
            ]
        };
        let changes = stride != 1 || input != output;
        BlockShapes { convs, shortcut: changes.then_some(ConvShape { input, output, kernel: 1, stride, groups: 1 }) }
    }

    /// Stage (from 0), number in the stage and convolutions of every block, in order.
    pub(crate) fn blocks(self, base_width: i64) -> Vec<BlockPosition> {
        let mut blocks = Vec::new();
        let mut input = base_width;
        for (stage, &count) in self.blocks.iter().enumerate() {
            let planes = base_width << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(BlockPosition { stage, block, shapes: self.block(input, planes, stride) });
                input = planes * self.expansion();
            }
        }
        blocks
    }
}

/// The first convolution of a stem, for images of `channels`.
pub(crate) fn first_conv(stem: Stem, channels: i64, base_width: i64) -> ConvShape {
    let (kernel, stride) = match stem {
        Stem::Imagenet => (7, 2),
        Stem::Cifar => (3, 1),
    };
    ConvShape { input: channels, output: base_width, kernel, stride, groups: 1 }
}

/// Whether a stem pools after its first convolution: 3×3, stride 2, padding 1.
pub(crate) fn has_max_pool(stem: Stem) -> bool {
    stem == Stem::Imagenet
}

/// A block and its position in the network.
pub(crate) struct BlockPosition {
    /// The stage, from 0.
    pub stage: usize,
    /// Its number in the stage.
    pub block: usize,
    /// Its convolutions.
    pub shapes: BlockShapes,
}

/// The convolutions of a residual block.
pub(crate) struct BlockShapes {
    /// One after the other.
    pub convs: Vec<ConvShape>,
    /// Where the shape changes.
    pub shortcut: Option<ConvShape>,
}

/// A residual block: convolutions with batch norms, and the shortcut's where the shape changes.
#[derive(Debug)]
struct Block {
    convs: Vec<(Conv, BatchNorm)>,
    shortcut: Option<(Conv, BatchNorm)>,
}

impl Block {
    fn new(mut init: Init, shapes: BlockShapes) -> Result<Self, Error> {
        let BlockShapes { convs: shapes, shortcut } = shapes;
        let last = shapes.len();
        let mut convs = Vec::with_capacity(last);
        for (i, shape) in (1..).zip(shapes) {
            let affine = if i == last { Affine::Zero } else { Affine::One };
            let conv = Conv::new(init.sub(format_args!("conv{i}")), shape)?;
            convs.push((conv, BatchNorm::new(init.sub(format_args!("bn{i}")), shape.output, affine)?));
        }
        let shortcut = match shortcut {
            Some(shape) => {
                let conv = Conv::new(init.sub("downsample.0"), shape)?;
                Some((conv, BatchNorm::new(init.sub("downsample.1"), shape.output, Affine::One)?))
            }
            None => None,
        };
        Ok(Self { convs, shortcut })
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        let mut y = x.shallow_clone();
        for (i, (conv, bn)) in self.convs.iter().enumerate() {
            y = bn.forward(&conv.forward(&y, pass)?, pass)?;
            if i + 1 < self.convs.len() {
                y = y.f_relu_()?;
            }
        }
        let identity = match &self.shortcut {
            Some((conv, bn)) => bn.forward(&conv.forward(x, pass)?, pass)?,
            None => x.shallow_clone(),
        };
        Ok(y.f_add_(&identity)?.f_relu_()?)
    }
}

/// The backbone up to its pooled features, `[N, C, H, W] → [N, F]`.
#[derive(Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    max_pool: bool,
    blocks: Vec<Block>,
    /// Blocks in each of the four stages.
    stages: [usize; 4],
    features: i64,
}

impl ResNet {
    /// The backbone of a recipe, for images of its channels.
    pub fn of(init: Init, recipe: &Pretrain) -> Result<Self, Error> {
        let (channels, base_width) = (recipe.augment.channels() as i64, i64::from(recipe.base_width));
        Self::new(init, recipe.arch, recipe.stem, channels, base_width)
    }

    /// Registers `conv1`, `bn1` and `layer1` to `layer4`. `channels` is 3 and `base_width` 64 in every published model.
    pub fn new(mut init: Init, arch: Arch, stem: Stem, channels: i64, base_width: i64) -> Result<Self, Error> {
        let layout = Layout::of(arch);
        let conv1 = Conv::new(init.sub("conv1"), first_conv(stem, channels, base_width))?;
        let bn1 = BatchNorm::new(init.sub("bn1"), base_width, Affine::One)?;
        let mut blocks = Vec::new();
        for BlockPosition { stage, block, shapes } in layout.blocks(base_width) {
            blocks.push(Block::new(init.sub(format!("layer{}.{block}", stage + 1)), shapes)?);
        }
        Ok(Self {
            conv1,
            bn1,
            max_pool: has_max_pool(stem),
            blocks,
            stages: layout.blocks,
            features: layout.features(base_width),
        })
    }

    /// F, the width of the pooled features.
    pub fn features(&self) -> i64 {
        self.features
    }

    /// Pooled features `[N, F]` of images `[N, C, H, W]`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor, Error> {
        let y = self.each_block(x, pass, |_, _| {})?;
        Ok(y.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?)
    }

    /// What `layer1` to `layer4` make of images `[N, C, H, W]`: what a detector builds on.
    pub fn feature_maps(&self, x: &Tensor, pass: Pass) -> Result<Vec<Tensor>, Error> {
        let mut maps = Vec::new();
        let mut ends = Vec::new();
        for count in self.stages {
            ends.push(ends.last().unwrap_or(&0) + count);
        }
        let _ = self.each_block(x, pass, |block, y| {
            if ends.contains(&(block + 1)) {
                maps.push(y.shallow_clone());
            }
        })?;
        Ok(maps)
    }

    /// The last block's output; `seen` receives each block's.
    fn each_block(&self, x: &Tensor, pass: Pass, mut seen: impl FnMut(usize, &Tensor)) -> Result<Tensor, Error> {
        let mut y = self.bn1.forward(&self.conv1.forward(x, pass)?, pass)?.f_relu_()?;
        if self.max_pool {
            y = y.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            y = block.forward(&y, pass)?;
            seen(i, &y);
        }
        Ok(y)
    }
}
