//! What a finished stage measured and wrote.

use serde::{Deserialize, Serialize};

use crate::lenient::or_default;

/// Accuracy of one kNN protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnnScore {
    /// Neighbours that vote.
    pub k: u32,
    /// Temperature of their weights.
    pub temperature: f64,
    /// Share of validation images whose class won, in percent.
    pub top1: f64,
    /// Why the figure is not comparable with others, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caveat: Option<String>,
}

/// A classifier's accuracy on the validation images, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassifierScore {
    /// Top-1 of the best epoch.
    pub top1: f64,
    /// Top-5 of the best epoch.
    pub top5: f64,
    /// The best epoch, counted from 1.
    pub best_epoch: u64,
    /// Top-1 of the last epoch.
    pub last_top1: f64,
    /// Validation images that were classified.
    pub images: u64,
    /// How it was trained, if not by the published protocol; such a figure is not comparable with published ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caveat: Option<String>,
}

/// A file written for another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Its format, as in `spec.export`.
    pub format: String,
    /// Its path within the output.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// Results of a stage; each stage fills the fields that it measures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageResult {
    /// Mean loss of the last interval.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub loss: Option<f64>,
    /// Output std at the last step.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub output_std: Option<f64>,
    /// Mean throughput of this attempt in images per second.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub images_per_second: Option<f64>,
    /// Finished epochs.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub epoch: Option<u64>,
    /// Finished steps.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub step: Option<u64>,
    /// Address of the last checkpoint.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub checkpoint: Option<String>,
    /// SHA-256 of its `model.safetensors`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub weights_sha256: Option<String>,
    /// kNN of the trained encoder.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub knn: Option<Vec<KnnScore>>,
    /// kNN of the encoder as it was initialised.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub knn_untrained: Option<Vec<KnnScore>>,
    /// kNN of raw pixels.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub knn_pixels: Option<Vec<KnnScore>>,
    /// Linear classification on the frozen backbone.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub linear: Option<ClassifierScore>,
    /// Linear classification on the encoder as it was initialised.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub linear_untrained: Option<ClassifierScore>,
    /// The fine-tuned network.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub finetune: Option<ClassifierScore>,
    /// Files that were written for other programs.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub exports: Option<Vec<Exported>>,
    /// Address of the report.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub report: Option<String>,
}

/// The score that tables show, of several protocols: the first one's top-1.
pub fn headline(scores: Option<&[KnnScore]>) -> Option<f64> {
    scores?.first().map(|score| score.top1)
}
