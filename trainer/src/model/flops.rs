//! The network's arithmetic, counted from its shapes.

use simsiam_recipe::{Ablation, Arch, Pretrain, Stem};

use super::layers::ConvShape;
use super::resnet::{BlockPosition, Layout, first_conv, has_max_pool};

/// Side of a convolution's or pooling's output for an input of side `side`, with a padding of half the kernel.
fn strided(side: u64, stride: i64) -> u64 {
    side.saturating_sub(1) / stride.unsigned_abs().max(1) + 1
}

/// Multiply-accumulates of a convolution on `[1, in, S, S]`, and the side of its output.
fn conv(shape: ConvShape, side: u64) -> (u64, u64) {
    let out = strided(side, shape.stride);
    let weights = shape.output * (shape.input / shape.groups) * shape.kernel * shape.kernel;
    (weights.unsigned_abs() * out * out, out)
}

/// Multiply-accumulates of one image's way through the backbone, and its feature width. Convolutions only: what batch
/// norms, activations and pooling do is not counted, as is the custom.
pub fn backbone_macs(arch: Arch, stem: Stem, channels: usize, base_width: u32, crop: u32) -> (u64, u64) {
    let base_width = i64::from(base_width);
    let (mut macs, mut side) = conv(first_conv(stem, channels as i64, base_width), u64::from(crop));
    if has_max_pool(stem) {
        side = strided(side, 2);
    }
    let layout = Layout::of(arch);
    for BlockPosition { shapes, .. } in layout.blocks(base_width) {
        macs += shapes.shortcut.map_or(0, |shortcut| conv(shortcut, side).0);
        for shape in shapes.convs {
            let (own, out) = conv(shape, side);
            (macs, side) = (macs + own, out);
        }
    }
    (macs, layout.features(base_width).unsigned_abs())
}

/// Values that the convolutions of the backbone put out for one image: what a training step has to keep is in proportion.
pub fn backbone_outputs(arch: Arch, stem: Stem, channels: usize, base_width: u32, crop: u32) -> u64 {
    let base_width = i64::from(base_width);
    let values = |shape: ConvShape, side: u64| shape.output.unsigned_abs() * side * side;
    let first = first_conv(stem, channels as i64, base_width);
    let mut side = strided(u64::from(crop), first.stride);
    let mut outputs = values(first, side);
    if has_max_pool(stem) {
        side = strided(side, 2);
    }
    for BlockPosition { shapes, .. } in Layout::of(arch).blocks(base_width) {
        outputs += shapes.shortcut.map_or(0, |shortcut| values(shortcut, strided(side, shortcut.stride)));
        for shape in shapes.convs {
            side = strided(side, shape.stride);
            outputs += values(shape, side);
        }
    }
    outputs
}

/// Multiply-accumulates of one view's way through backbone, projector and predictor.
pub fn forward_macs(recipe: &Pretrain) -> u64 {
    let Pretrain { arch, stem, base_width, augment, .. } = recipe;
    let (backbone, features) = backbone_macs(*arch, *stem, augment.channels(), *base_width, augment.crop_size);
    let (dim, pred) = (u64::from(recipe.dim), u64::from(recipe.pred_dim));
    let hidden = recipe.projector.hidden_dim.map_or(features, u64::from);
    let inner = u64::from(recipe.projector.layers).saturating_sub(2) * hidden * hidden;
    let projector = features * hidden + inner + hidden * dim;
    let predictor = if recipe.ablation == Ablation::NoPredictor { 0 } else { 2 * dim * pred };
    backbone + projector + predictor
}

/// Floating-point operations of training on one image: two views, forward, and backward as twice that; two operations per
/// multiply-accumulate. For the method as published; ablations that leave a part of it out do less.
pub fn training_flops(recipe: &Pretrain) -> u64 {
    2 * 3 * 2 * forward_macs(recipe)
}

#[cfg(test)]
mod tests {
    use simsiam_recipe::Augment;

    use super::*;

    /// torchvision's tables say 4.09 and 1.81 GMACs with the classifier, 2048 or 512 × 1000, that is not here.
    #[test]
    fn macs_of_published_architectures_match_torchvision() {
        let macs = |arch| backbone_macs(arch, Stem::Imagenet, 3, 64, 224);
        assert_eq!(macs(Arch::Resnet50), (4_089_184_256 - 2_048_000, 2048));
        assert_eq!(macs(Arch::Resnet18), (1_814_073_344 - 512_000, 512));
        // The same tables, to two digits: ResNet-101, Wide ResNet-50-2, ResNeXt-50 32x4d.
        for (arch, giga) in [(Arch::Resnet101, 7.80), (Arch::WideResnet50_2, 11.40), (Arch::Resnext50_32x4d, 4.23)] {
            let (found, features) = macs(arch);
            let whole = (found + features * 1000) as f64 / 1e9;
            assert!((whole - giga).abs() < 0.006, "{arch}: {whole}");
        }
    }

    /// The activations of Radosavovic et al., "Designing network design spaces" (2020), in millions.
    #[test]
    fn outputs_of_published_architectures_match_their_count() {
        for (arch, millions) in [(Arch::Resnet50, 11.1), (Arch::Resnet101, 16.2), (Arch::Resnext50_32x4d, 14.4)] {
            let found = backbone_outputs(arch, Stem::Imagenet, 3, 64, 224) as f64 / 1e6;
            assert!((found - millions).abs() < 0.06, "{arch}: {found}");
        }
    }

    #[test]
    fn heads_and_both_views_are_counted() {
        let recipe = Pretrain { arch: Arch::Resnet50, ..Pretrain::default() };
        let heads = 3 * 2048 * 2048 + 2 * 2048 * 512;
        assert_eq!(forward_macs(&recipe), 4_087_136_256 + heads);
        assert_eq!(training_flops(&recipe), 12 * (4_087_136_256 + heads));
        let without = Pretrain { ablation: Ablation::NoPredictor, ..recipe };
        assert_eq!(forward_macs(&without), 4_087_136_256 + 3 * 2048 * 2048);
    }

    /// Only the first convolution depends on the channels: 7×7 weights at each of 112 × 112 positions.
    #[test]
    fn macs_grow_with_channels_in_the_first_convolution() {
        let macs = |channels| backbone_macs(Arch::Resnet18, Stem::Imagenet, channels, 64, 224).0;
        assert_eq!(macs(5) - macs(3), 2 * 64 * 49 * 112 * 112);
        assert_eq!(macs(3) - macs(1), macs(5) - macs(3));
        let four = Augment { mean: vec![0.5; 4], std: vec![0.25; 4], ..Augment::default() };
        let recipe = Pretrain { arch: Arch::Resnet18, augment: four, ..Pretrain::default() };
        let rgb = Pretrain { augment: Augment::default(), ..recipe.clone() };
        assert_eq!(forward_macs(&recipe) - forward_macs(&rgb), 64 * 49 * 112 * 112);
    }

    /// A stem without stride or pooling: 32 pixels stay 32 until the second stage.
    #[test]
    fn macs_of_the_cifar_stem_match_the_published_count() {
        let (macs, _) = backbone_macs(Arch::Resnet18, Stem::Cifar, 3, 64, 32);
        // Known of ResNet-18 for CIFAR: 0.56 GMACs.
        assert!((macs as f64 / 1e9 - 0.556).abs() < 0.002, "{macs}");
    }
}
