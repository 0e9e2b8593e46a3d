//! The top of a recipe: which images, what to do with them, where results go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::eval::{Finetune, Knn, Linear};
use crate::pretrain::Pretrain;
use crate::report::Report;
use crate::{presets, rules, schema};

/// What to train: the part of a `SimSiamRun`'s `spec` that does not depend on where it runs. A stage
/// that is not given is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::recipe)]
pub struct Recipe {
    /// The images.
    pub dataset: Dataset,
    /// Where checkpoints, weights and results are written.
    pub output: Output,
    /// Pre-training with SimSiam. `{}` takes every default.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "presets::under_pretrain")]
    pub pretrain: Option<Pretrain>,
    /// k-nearest-neighbour classification on frozen features. `{}` takes every default. Needs
    /// `dataset.val` and labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knn: Option<Knn>,
    /// Linear classification on the frozen backbone. `{}` takes every default. Needs `dataset.val`
    /// and labels.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "presets::under_linear")]
    pub linear: Option<Linear>,
    /// Training of the whole network with labels. `{}` takes every default. Needs `dataset.val` and labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Finetune>,
    /// Weights to begin with: a checkpoint of the reference (`.pth.tar`) or of MoCo, a backbone of
    /// torchvision, timm or Detectron2, or one of our own checkpoints. A path, `file:///path`,
    /// `s3://bucket/key`, `gs://…`, `az://…` or `pvc://claim/path`. Pre-training continues from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub weights: Option<String>,
    /// The formats in which the final weights are written. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub export: Vec<ExportFormat>,
    /// A page about the run, as `<output>/report.html`. `{}` takes every default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// When checkpoints are written and which are kept.
    #[serde(default)]
    pub checkpoint: CheckpointPolicy,
}

/// Where a run writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::output)]
pub struct Output {
    /// The folder for everything this run writes: a path, `file:///path`, `s3://bucket/prefix`,
    /// `gs://…`, `az://…` or `pvc://claim/path`.
    #[schemars(length(max = 1024))]
    pub uri: String,
    /// Name of the Kubernetes Secret with the store's credentials as environment variables. Locally
    /// they are taken from the environment instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret: Option<String>,
    /// Address of an S3 service that is not Amazon's, as `https://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
}

/// A format for the final weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum ExportFormat {
    /// The backbone under torchvision's names, as safetensors.
    Safetensors,
    /// The backbone as torchvision's `load_state_dict` takes it.
    Torchvision,
    /// The backbone as timm takes it.
    Timm,
    /// The backbone for Detectron2.
    Detectron2,
    /// The whole model as the reference's `checkpoint_NNNN.pth.tar`.
    Pth,
}

impl ExportFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Safetensors, Self::Torchvision, Self::Timm, Self::Detectron2, Self::Pth];

    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::Detectron2 => "detectron2",
            Self::Pth => "pth",
        }
    }
}

/// When checkpoints are written and which are kept. The one at the end of pre-training is always written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::checkpoint)]
pub struct CheckpointPolicy {
    /// Also write one every this many optimiser steps. Default: only at epochs' ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u32>,
    /// Write one at the end of every Nth epoch; 0 writes only the last.
    pub every_epochs: u32,
    /// How many of the newest are kept.
    pub keep_last: u32,
    /// Beside the newest, keep those of every Nth epoch for good; 0 keeps none.
    pub keep_every_epochs: u32,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { every_steps: None, every_epochs: 1, keep_last: 3, keep_every_epochs: 0 }
    }
}
