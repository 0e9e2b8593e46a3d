//! How the features are evaluated: k nearest neighbours, linear classification and fine-tuning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// k-nearest-neighbour classification: L2-normalised backbone features, cosine similarity, votes weighted
/// by exp(similarity / temperature).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::knn)]
pub struct Knn {
    /// Also evaluate during pre-training after every Nth epoch; 0 evaluates only at the end.
    pub every_epochs: u32,
    /// The pairs of k and temperature to report; the first is the run's headline result.
    #[schemars(length(min = 1, max = 8))]
    pub protocols: Vec<KnnProtocol>,
    /// Images per forward pass, over all ranks together.
    pub batch_size: u32,
}

impl Default for Knn {
    fn default() -> Self {
        Self {
            every_epochs: 0,
            protocols: vec![KnnProtocol { k: 200, temperature: 0.1 }, KnnProtocol { k: 20, temperature: 0.07 }],
            batch_size: 256,
        }
    }
}

/// One k-nearest-neighbour protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::knn_protocol)]
pub struct KnnProtocol {
    /// How many neighbours vote.
    pub k: u32,
    /// Temperature of the vote weights.
    pub temperature: f64,
}

/// Linear classification on the frozen backbone. A preset may set any of these fields, so none carries a
/// default in the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::linear)]
pub struct Linear {
    /// A published recipe whose values apply wherever a field is not given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<LinearPreset>,
    /// Number of passes over the training images. Default: 90.
    pub epochs: u32,
    /// Images per optimiser step, over all ranks. Default: 4096.
    pub batch_size: u32,
    /// Base learning rate per 256 images; the learning rate is lr × batchSize / 256. Default: 0.1.
    pub lr: f64,
    /// The optimiser. Default: lars.
    pub optimizer: LinearOptimizer,
    /// Momentum. Default: 0.9.
    pub momentum: f64,
    /// Weight decay. Default: 0.
    pub weight_decay: f64,
    /// The trust coefficient of LARS. Default: 0.001.
    pub trust_coefficient: f64,
    /// Minimum crop area of a training image, as a fraction of its area. Default: 0.08.
    pub min_scale: f64,
    /// Compute the features once, without augmentation, and train on them. Fast, but not the published
    /// protocol; the results are marked accordingly. Default: false.
    pub cached_features: bool,
    /// Also train a classifier on the randomly initialised encoder as a baseline; doubles the time.
    /// Default: false.
    pub untrained_too: bool,
    /// Seed of the classifier's initial weights, the sample order and the crops. Default: 0.
    pub seed: u64,
}

impl Default for Linear {
    fn default() -> Self {
        Self {
            preset: None,
            epochs: 90,
            batch_size: 4096,
            lr: 0.1,
            optimizer: LinearOptimizer::Lars,
            momentum: 0.9,
            weight_decay: 0.0,
            trust_coefficient: 0.001,
            min_scale: 0.08,
            cached_features: false,
            untrained_too: false,
            seed: 0,
        }
    }
}

impl Linear {
    /// The peak learning rate: base × global batch / 256.
    pub fn peak_lr(&self) -> f64 {
        self.lr * f64::from(self.batch_size) / 256.0
    }
}

/// A published recipe for linear classification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::plain_enum)]
pub enum LinearPreset {
    /// The published command: LARS, base lr 0.1, batch 4096, 90 epochs.
    LinearLars,
    /// The paper's text: LARS, base lr 0.02, batch 4096, 90 epochs.
    LinearPaper,
    /// The paper's alternative: SGD, base lr 30, batch 256, 90 epochs; about 1 % lower.
    LinearSgd,
}

/// The optimiser of the linear classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum LinearOptimizer {
    /// Layer-wise adaptive rates (LARC without clipping) around SGD.
    Lars,
    /// Plain SGD with momentum.
    Sgd,
}

/// Fine-tuning: the whole network is trained with the labels of all or some of the images, and evaluated as in `linear`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::finetune)]
pub struct Finetune {
    /// Fraction of each class's training images whose labels are used, such as 0.01 or 0.1; 1 uses all.
    pub fraction: f64,
    /// Passes over the images whose labels are used.
    pub epochs: u32,
    /// Images per optimiser step, over all ranks.
    pub batch_size: u32,
    /// Base learning rate of the backbone per 256 images; the learning rate is lr × batchSize / 256, with cosine decay
    /// per epoch.
    pub lr: f64,
    /// Base learning rate of the randomly initialised classifier, scaled and decayed in the same way.
    pub classifier_lr: f64,
    /// SGD momentum.
    pub momentum: f64,
    /// Weight decay on all parameters.
    pub weight_decay: f64,
    /// Minimum crop area of a training image, as a fraction of its area.
    pub min_scale: f64,
    /// Seed of the image selection, the classifier's initial weights, the sample order and the crops.
    pub seed: u64,
}

impl Default for Finetune {
    fn default() -> Self {
        Self {
            fraction: 1.0,
            epochs: 20,
            batch_size: 256,
            lr: 0.005,
            classifier_lr: 0.5,
            momentum: 0.9,
            weight_decay: 0.0,
            min_scale: 0.08,
            seed: 0,
        }
    }
}

impl Finetune {
    /// The peak learning rate of the backbone: base × global batch / 256.
    pub fn peak_lr(&self) -> f64 {
        self.lr * f64::from(self.batch_size) / 256.0
    }

    /// The peak learning rate of the classifier, scaled in the same way.
    pub fn peak_classifier_lr(&self) -> f64 {
        self.classifier_lr * f64::from(self.batch_size) / 256.0
    }
}
