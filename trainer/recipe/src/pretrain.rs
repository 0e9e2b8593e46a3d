//! Pre-training: the backbone, the heads, the optimiser and the schedule.
//!
//! Defaults are the paper's ImageNet recipe of 100 epochs (arXiv 2011.10566, section 3) with the learning
//! rate and the fixed predictor rate of the reference's published command. A preset may set any of these
//! fields, so none of them carries a `default:` in the schema: an API server would fill it in and the
//! preset's values could no longer be distinguished from the user's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augment::Augment;
use crate::{rules, schema};

/// Pre-training with SimSiam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::pretrain)]
pub struct Pretrain {
    /// A published recipe whose values apply wherever a field is not given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// The backbone, by torchvision's name. Default: resnet50.
    pub arch: Arch,
    /// The backbone's first layers. Default: imagenet.
    pub stem: Stem,
    /// Channels of the backbone's first stage; a value below 64 makes a small network for experiments. Only for
    /// resnet18 to resnet152. Default: 64.
    pub base_width: u32,
    /// Number of passes over the training images. Default: 100.
    pub epochs: u32,
    /// Images per optimiser step, over all ranks and accumulated micro-batches together (the reference's
    /// is per node). Default: 512.
    pub batch_size: u32,
    /// Base learning rate per 256 images; the learning rate is lr × batchSize / 256. Default: 0.05.
    pub lr: f64,
    /// SGD momentum. Default: 0.9.
    pub momentum: f64,
    /// Weight decay on all trained parameters. Default: 0.0001.
    pub weight_decay: f64,
    /// Learning-rate schedule. Default: cosinePerEpoch.
    pub schedule: Schedule,
    /// Epochs of linear learning-rate warm-up; the paper uses 10 for batches of 1024 and more. Default: 0.
    pub warmup_epochs: u32,
    /// Keep the predictor's learning rate constant. Default: true.
    pub fix_pred_lr: bool,
    /// Numeric precision of the forward and backward pass. Default: fp32.
    pub precision: Precision,
    /// Seed of all random numbers. Default: 0.
    pub seed: u64,
    /// Micro-batches per optimiser step. Batch norm sees one micro-batch, so this does not equal a
    /// larger batch. Default: 1.
    pub accumulate: u32,
    /// The projection head.
    pub projector: Projector,
    /// Width of the projector's output. Default: 2048.
    pub dim: u32,
    /// Hidden width of the predictor. Default: 512.
    pub pred_dim: u32,
    /// The augmentation that makes the two views of an image.
    pub augment: Augment,
    /// Change one part of the method to measure its effect. Default: none.
    pub ablation: Ablation,
    /// Alternate between computing targets and training towards them (section 5 of the paper). Default: both in
    /// every step, as with steps: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternation: Option<Alternation>,
    /// What counts as a collapsed representation, and when it fails the run.
    pub collapse: CollapsePolicy,
}

impl Default for Pretrain {
    fn default() -> Self {
        Self {
            preset: None,
            arch: Arch::Resnet50,
            stem: Stem::Imagenet,
            base_width: 64,
            epochs: 100,
            batch_size: 512,
            lr: 0.05,
            momentum: 0.9,
            weight_decay: 1e-4,
            schedule: Schedule::CosinePerEpoch,
            warmup_epochs: 0,
            fix_pred_lr: true,
            precision: Precision::Fp32,
            seed: 0,
            accumulate: 1,
            projector: Projector::default(),
            dim: 2048,
            pred_dim: 512,
            augment: Augment::default(),
            ablation: Ablation::None,
            alternation: None,
            collapse: CollapsePolicy::default(),
        }
    }
}

impl Pretrain {
    /// The peak learning rate: base × global batch / 256 (linear scaling, Goyal et al. 2017).
    pub fn peak_lr(&self) -> f64 {
        self.lr * f64::from(self.batch_size) / 256.0
    }

    /// F, the backbone's feature width: 2048 for `resnet50`, 512 for `resnet18`, in proportion for a
    /// smaller `baseWidth`.
    pub fn feature_width(&self) -> u32 {
        // The last of four stages has 8 times the first one's channels, times the block's expansion.
        self.base_width * 8 * self.arch.expansion()
    }

    /// The projector's hidden width: `projector.hiddenDim`, or F.
    pub fn projector_hidden_dim(&self) -> u32 {
        self.projector.hidden_dim.unwrap_or_else(|| self.feature_width())
    }
}

/// A published pre-training recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::plain_enum)]
pub enum Preset {
    /// ImageNet, ResNet-50, batch 512, 100 epochs: 68.1 % linear top-1.
    #[serde(rename = "imagenet-100ep")]
    Imagenet100ep,
    /// The same with batch 256: 68.3 %.
    #[serde(rename = "imagenet-100ep-bs256")]
    Imagenet100epBs256,
    /// For transfer to detection: base lr 0.5, weight decay 1e-5, 200 epochs: 57.0 AP on VOC07+12.
    TransferOptimal,
    /// imagenet-100ep with the predictor's learning rate decayed like the others: 67.7 %.
    PaperBaseline,
    /// CIFAR-10, ResNet-18 with the CIFAR stem, 800 epochs: 91.8 %.
    #[serde(rename = "cifar10")]
    Cifar10,
}

/// A backbone, by torchvision's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = schema::plain_enum)]
#[allow(missing_docs)] // torchvision's names.
pub enum Arch {
    Resnet18,
    Resnet34,
    Resnet50,
    Resnet101,
    Resnet152,
    #[serde(rename = "wide_resnet50_2")]
    WideResnet50_2,
    #[serde(rename = "wide_resnet101_2")]
    WideResnet101_2,
    #[serde(rename = "resnext50_32x4d")]
    Resnext50_32x4d,
    #[serde(rename = "resnext101_32x8d")]
    Resnext101_32x8d,
    #[serde(rename = "resnext101_64x4d")]
    Resnext101_64x4d,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Resnet18,
        Self::Resnet34,
        Self::Resnet50,
        Self::Resnet101,
        Self::Resnet152,
        Self::WideResnet50_2,
        Self::WideResnet101_2,
        Self::Resnext50_32x4d,
        Self::Resnext101_32x8d,
        Self::Resnext101_64x4d,
    ];

    /// torchvision's name, as in the YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::Resnet152 => "resnet152",
            Self::WideResnet50_2 => "wide_resnet50_2",
            Self::WideResnet101_2 => "wide_resnet101_2",
            Self::Resnext50_32x4d => "resnext50_32x4d",
            Self::Resnext101_32x8d => "resnext101_32x8d",
            Self::Resnext101_64x4d => "resnext101_64x4d",
        }
    }

    /// Output channels of a residual block over its stage's width: 1 for basic blocks, 4 for bottlenecks.
    pub fn expansion(self) -> u32 {
        match self {
            Self::Resnet18 | Self::Resnet34 => 1,
            _ => 4,
        }
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The backbone's first layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Stem {
    /// 7×7 convolution with stride 2, then max-pooling.
    Imagenet,
    /// 3×3 convolution with stride 1 and no pooling, for small images.
    Cifar,
}

/// How the learning rate changes during training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Schedule {
    /// Cosine decay, updated once per epoch, as in the reference.
    CosinePerEpoch,
    /// Cosine decay, updated at every optimiser step.
    CosinePerStep,
    /// Constant learning rate.
    Constant,
}

/// Numeric precision of the forward and backward pass. Weights and optimiser state are always fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Precision {
    /// 32-bit floats throughout.
    Fp32,
    /// bfloat16 where autocast allows it.
    Bf16,
}

/// The projection head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::projector)]
pub struct Projector {
    /// Linear layers, 2 or 3. Default: 3.
    pub layers: u32,
    /// Hidden width. Default: the backbone's feature width (2048 for resnet50, 512 for resnet18).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_dim: Option<u32>,
}

impl Default for Projector {
    fn default() -> Self {
        Self { layers: 3, hidden_dim: None }
    }
}

/// One part of the method changed, as in section 4 of the paper. The figures are the paper's: linear top-1 on
/// ImageNet after 100 epochs, where the whole method has 68.1 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Ablation {
    /// The whole method.
    None,
    /// Gradients flow through both sides of the loss: collapses, 0.1 %.
    NoStopGradient,
    /// The loss compares projections: collapses, 0.1 %.
    NoPredictor,
    /// The predictor keeps its random initial weights: does not converge, 1.5 %.
    FixedPredictor,
    /// No batch norm in projector and predictor: 34.6 %.
    BatchNormNone,
    /// Batch norm in the hidden layers of projector and predictor only: 67.4 %.
    BatchNormHidden,
    /// Batch norm also at the predictor's output: unstable.
    BatchNormAll,
    /// Cross-entropy of softmaxes over the channels instead of cosine similarity: 63.2 %.
    CrossEntropy,
    /// Only view 1 predicts view 2: 64.8 %.
    Asymmetric,
    /// The same with two pairs of views of each image: 67.3 %.
    AsymmetricDouble,
}

/// How many optimiser steps use one computation of the targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::alternation)]
pub struct Alternation {
    /// Recompute the targets after every N optimiser steps, and at the end of an epoch; the paper reports 68.7 % for 10
    /// and 68.9 % for 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Recompute the targets once per epoch; the paper reports 67.0 %. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub epoch: bool,
}

/// What counts as a collapsed representation, and when it fails the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::collapse)]
pub struct CollapsePolicy {
    /// Fail the run after this many consecutive collapsed steps. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience_steps: Option<u32>,
    /// A step counts as collapsed if the standard deviation of the outputs is below threshold / √dim; in a
    /// healthy run it is near 1 / √dim. Default: 0.2.
    pub threshold: f64,
}

impl Default for CollapsePolicy {
    fn default() -> Self {
        Self { patience_steps: None, threshold: 0.2 }
    }
}
