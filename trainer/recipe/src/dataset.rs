//! The images of a run: their address, how they are cached, how they are read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::range::{Pages, ValueRange};
use crate::{rules, schema};

/// The images of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::dataset)]
pub struct Dataset {
    /// Training images: a folder of class folders, a flat folder (without labels), tar shards
    /// (WebDataset), Parquet files (Hugging Face), or a set packed by `simsiam data pack`. A path,
    /// `file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…` or `pvc://claim/path`. The beginning of the
    /// names of Parquet files selects a split, as in `data/train`.
    #[schemars(length(max = 1024))]
    pub train: String,
    /// Labelled validation images with the classes of `train`; `knn`, `linear` and `finetune` need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub val: Option<String>,
    /// Labelled images for evaluation, where `train` has no labels or others: `knn`, `linear`, `finetune` and the report
    /// use these two sets instead of `train` and `val`. They are read in place, never packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Of several images under one key of a WebDataset tar, the one with this ending is the sample, such as `jpg` or
    /// `left.jpg`: what follows the first dot of the file name. Default: each image is a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub image_key: Option<String>,
    /// Column of Parquet files with the images: a struct with `bytes`, or binary. Default: the only such column, or `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub image_column: Option<String>,
    /// Column of Parquet files with the labels: numbers or text. Default: `label`, `labels`, or the only column whose type or
    /// name says that it has classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub label_column: Option<String>,
    /// Endpoint of an S3-compatible service other than AWS, as `https://host:port`. Default: that of `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub endpoint: Option<String>,
    /// Region of the bucket. Default: that of `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// Maximum number of distinct unreadable images per rank and epoch before the run fails with bad data.
    /// Each is replaced by the next readable sample of the epoch.
    #[serde(default)]
    pub max_corrupt: u64,
    /// Threads per rank that read, decode and augment. Default: the rank's share of the CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader_threads: Option<u32>,
    /// Number of channels of the images, and of the first convolution. With 1, colour images are converted to grayscale;
    /// with 3, grayscale images to RGB; otherwise every image must have this many. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// How JPEG files are decoded for training. Default: exact.
    #[serde(default)]
    pub decode: Decode,
    /// Which values are black and white in images of more than 8 bits per sample. Default: the range of their type.
    #[serde(default, skip_serializing_if = "ValueRange::is_auto")]
    pub range: ValueRange,
    /// Which pages of a TIFF file with several are samples. Default: first.
    #[serde(default, skip_serializing_if = "Pages::is_first")]
    pub pages: Pages,
    /// Pack the images into large shards before training (the `prepare` stage), under
    /// `<output>/packed`. `{}` keeps them as they are; smaller images load faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
    /// Cache of remote images on the node's disk. `{}` takes every default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
}

impl Dataset {
    /// Number of channels of the images: `channels`, or 3.
    pub fn channels(&self) -> usize {
        self.channels.map_or(RGB, |channels| channels as usize)
    }
}

/// Channels of colour images.
pub(crate) const RGB: usize = 3;

/// Labelled images for evaluation, beside unlabelled images for pre-training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::probe)]
pub struct Probe {
    /// Labelled images to train classifiers on, and whose neighbours vote in kNN; addresses as in `dataset.train`.
    #[schemars(length(max = 1024))]
    pub train: String,
    /// Labelled images to evaluate on, with the classes of `probe.train`.
    #[schemars(length(max = 1024))]
    pub val: String,
}

/// How JPEG files are decoded for training. Evaluation always decodes exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Decode {
    /// Every pixel as Pillow decodes it.
    #[default]
    Exact,
    /// At a reduced scale where a crop is shrunk by half or more: faster, with slightly different
    /// pixels.
    Fast,
}

/// How images are packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::pack)]
pub struct Pack {
    /// Downscale images whose longer side exceeds this many pixels. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_side: Option<u32>,
    /// Downscale images whose shorter side exceeds this many pixels. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_side: Option<u32>,
    /// JPEG quality of downscaled images and of converted 8-bit PNGs.
    pub quality: u32,
}

impl Default for Pack {
    fn default() -> Self {
        Self { max_side: None, short_side: None, quality: 90 }
    }
}

/// Cache of remote images on the node's disk, shared by its ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::cache)]
pub struct Cache {
    /// Maximum size of the cache, such as 200Gi.
    #[schemars(length(max = 32))]
    pub size_limit: String,
}

impl Default for Cache {
    fn default() -> Self {
        Self { size_limit: "100Gi".into() }
    }
}

impl Cache {
    /// `sizeLimit` in bytes; the largest number where it exceeds even that.
    pub fn size_limit_bytes(&self) -> u64 {
        let digits = self.size_limit.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.size_limit.len());
        let (number, unit) = self.size_limit.split_at(digits);
        let factor: f64 = match unit {
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "Ki" => 1024.0,
            "Mi" => 1_048_576.0,
            "Gi" => 1_073_741_824.0,
            "Ti" => 1_099_511_627_776.0,
            _ => 1.0,
        };
        // `as` stays within the range of the integer.
        (number.parse::<f64>().unwrap_or(0.0) * factor) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_limit_with_unit_is_bytes() {
        let bytes = |text: &str| Cache { size_limit: text.into() }.size_limit_bytes();
        assert_eq!(bytes("200Gi"), 200 << 30);
        assert_eq!(bytes("1.5k"), 1500);
        assert_eq!(bytes("7"), 7);
        assert_eq!(bytes("99999999999Ti"), u64::MAX);
    }
}
