//! The recipe's top level: the images, the stages, the output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::evaluation::{Finetune, Knn, Linear};
use crate::pretrain::Pretrain;
use crate::report::Report;
use crate::track::Track;
use crate::{presets, rules, schema};

/// What to train: the part of a `SimSiamRun`'s `spec` that does not depend on where it runs. Stages
/// that are not given are skipped.
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
    /// labelled images: `dataset.val` or `dataset.probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knn: Option<Knn>,
    /// Linear classification on the frozen backbone. `{}` takes every default. Needs labelled
    /// images: `dataset.val` or `dataset.probe`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "presets::under_linear")]
    pub linear: Option<Linear>,
    /// Fine-tuning of the whole network with labels. `{}` takes every default. Needs labelled images:
    /// `dataset.val` or `dataset.probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Finetune>,
    /// Initial weights: a checkpoint of the reference (`.pth.tar`) or of MoCo, a backbone of
    /// torchvision, timm or Detectron2, or one of our own checkpoints. A path, `file:///path`,
    /// `s3://bucket/key`, `gs://…`, `az://…` or `pvc://claim/path`. Pre-training continues from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub weights: Option<String>,
    /// The formats in which the final weights are written. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub export: Vec<ExportFormat>,
    /// An HTML report of the run at `<output>/report.html`. `{}` takes every default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// An experiment tracker that gets the run's parameters, metrics and artifacts. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// When checkpoints are written and which are kept.
    #[serde(default)]
    pub checkpoint: CheckpointPolicy,
}

/// Where a run writes its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::output)]
pub struct Output {
    /// The folder for everything this run writes: a path, `file:///path`, `s3://bucket/prefix`,
    /// `gs://…`, `az://…` or `pvc://claim/path`.
    #[schemars(length(max = 1024))]
    pub uri: String,
    /// Name of the Kubernetes Secret with the storage credentials as environment variables. Local runs
    /// read them from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret: Option<String>,
    /// Endpoint of an S3-compatible service other than AWS, as `https://host:port`.
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
    /// The backbone as a state dict for torchvision.
    Torchvision,
    /// The backbone as a state dict for timm.
    Timm,
    /// The backbone for Detectron2.
    Detectron2,
    /// The whole model as the reference's `checkpoint_NNNN.pth.tar`.
    Pth,
    /// The backbone as an ONNX graph for normalised images.
    Onnx,
    /// The backbone as an ONNX graph that normalises images with values from 0 to 1 itself.
    OnnxWithNormalization,
    /// A Hugging Face model folder for timm, with a model card. Needs the imagenet stem and baseWidth 64.
    Huggingface,
}

impl ExportFormat {
    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Safetensors,
        Self::Torchvision,
        Self::Timm,
        Self::Detectron2,
        Self::Pth,
        Self::Onnx,
        Self::OnnxWithNormalization,
        Self::Huggingface,
    ];

    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::Detectron2 => "detectron2",
            Self::Pth => "pth",
            Self::Onnx => "onnx",
            Self::OnnxWithNormalization => "onnxWithNormalization",
            Self::Huggingface => "huggingface",
        }
    }
}

/// When checkpoints are written and which are kept. The one at the end of pre-training is always written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::checkpoint)]
pub struct CheckpointPolicy {
    /// Also write a checkpoint after every N optimiser steps. Default: only at the end of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u32>,
    /// Write a checkpoint at the end of every Nth epoch; 0 writes only the final one.
    pub every_epochs: u32,
    /// Number of most recent checkpoints to keep.
    pub keep_last: u32,
    /// Also keep the checkpoint of every Nth epoch permanently; 0 keeps none.
    pub keep_every_epochs: u32,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { every_steps: None, every_epochs: 1, keep_last: 3, keep_every_epochs: 0 }
    }
}
