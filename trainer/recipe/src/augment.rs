//! The two views of an image: MoCo v2's augmentation, in its order, and what images without an upright position need.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// The random transformations that make a view, and the fixed ones for evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::augment)]
pub struct Augment {
    /// Values for a kind of images, which apply wherever a field of augment is not given here. They precede those of
    /// pretrain.preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<AugmentPreset>,
    /// Side length of a view in pixels. Default: 224.
    pub crop_size: u32,
    /// Minimum area of a random crop, as a fraction of the image. Default: 0.2.
    pub min_scale: f64,
    /// Maximum area of a random crop, as a fraction of the image. Default: 1.
    pub max_scale: f64,
    /// Probability of colour jitter. Default: 0.8.
    pub jitter_prob: f64,
    /// Strength of the brightness jitter. Default: 0.4.
    pub brightness: f64,
    /// Strength of the contrast jitter. Default: 0.4.
    pub contrast: f64,
    /// Strength of the saturation jitter. Default: 0.4, or 0 where dataset.channels is not 3.
    pub saturation: f64,
    /// Strength of the hue jitter, as a fraction of the colour circle. Default: 0.1, or 0 where dataset.channels is not
    /// 3.
    pub hue: f64,
    /// Probability of conversion to grayscale. Default: 0.2, or 0 where dataset.channels is not 3.
    pub grayscale_prob: f64,
    /// Probability of Gaussian blur. Default: 0.5.
    pub blur_prob: f64,
    /// Minimum and maximum sigma of the blur in pixels. Default: [0.1, 2].
    pub blur_sigma: [f64; 2],
    /// Probability of a horizontal flip. Default: 0.5.
    pub flip_prob: f64,
    /// Probability of a vertical flip. Default: 0.
    pub vertical_flip_prob: f64,
    /// Probability of a turn by 90°, 180° or 270°, one as likely as the other; with 0.75 all four directions are equally
    /// likely. Default: 0.
    pub quarter_turn_prob: f64,
    /// Probability of solarisation, which inverts bright values. Default: 0.
    pub solarize_prob: f64,
    /// Smallest value, of 0 to 255, that solarisation inverts. Default: 128.
    pub solarize_threshold: u8,
    /// Probabilities for the second view alone, as in BYOL. Default: those of the first view.
    #[serde(skip_serializing_if = "SecondView::is_empty")]
    pub second_view: SecondView,
    /// Length of the image's shorter side before the centre crop in evaluation. Default: cropSize × 256 / 224.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_resize: Option<u32>,
    /// Device for everything but crop and resize: colours, blur, flips, turns and normalisation. Default: cpu.
    pub device: AugmentDevice,
    /// Mean of each channel that normalisation subtracts, on values from 0 to 1. Default: ImageNet's, or 0.5 where
    /// dataset.channels is not 3.
    #[schemars(length(min = 1, max = 32))]
    pub mean: Vec<f64>,
    /// Standard deviation of each channel that normalisation divides by. Default: ImageNet's, or 0.25 where
    /// dataset.channels is not 3.
    #[schemars(length(min = 1, max = 32))]
    pub std: Vec<f64>,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            preset: None,
            crop_size: 224,
            min_scale: 0.2,
            max_scale: 1.0,
            jitter_prob: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            grayscale_prob: 0.2,
            blur_prob: 0.5,
            blur_sigma: [0.1, 2.0],
            flip_prob: 0.5,
            vertical_flip_prob: 0.0,
            quarter_turn_prob: 0.0,
            solarize_prob: 0.0,
            solarize_threshold: 128,
            second_view: SecondView::default(),
            eval_resize: None,
            device: AugmentDevice::Cpu,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }
}

impl Augment {
    /// Number of channels of the images, which is that of the means.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The shorter side in pixels before evaluation's central crop: `evalResize`, or cropSize × 256 / 224
    /// rounded to the nearest pixel.
    pub fn eval_resize(&self) -> u32 {
        // 256/224 = 8/7.
        self.eval_resize.unwrap_or(self.crop_size.saturating_mul(8).saturating_add(3) / 7)
    }
}

/// Values of `augment` for a kind of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum AugmentPreset {
    /// Photographs from aircraft and satellites, seen from straight above: no direction is up, and hues tell what grows there.
    Aerial,
    /// Cells and stained tissue: no direction is up, the magnification is fixed, and the stain's colour carries meaning.
    Microscopy,
    /// Grey images of the body, such as radiographs and CT or MR slices: upright, with findings that are small and faint.
    Medical,
}

/// Probabilities for the second view alone. A field that is not given has the first view's value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::under_preset, transform = rules::second_view)]
pub struct SecondView {
    /// Probability of colour jitter. Default: augment.jitterProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_prob: Option<f64>,
    /// Probability of conversion to grayscale. Default: augment.grayscaleProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grayscale_prob: Option<f64>,
    /// Probability of Gaussian blur. Default: augment.blurProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur_prob: Option<f64>,
    /// Probability of solarisation. Default: augment.solarizeProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solarize_prob: Option<f64>,
    /// Probability of a horizontal flip. Default: augment.flipProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip_prob: Option<f64>,
    /// Probability of a vertical flip. Default: augment.verticalFlipProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vertical_flip_prob: Option<f64>,
    /// Probability of a turn by 90°, 180° or 270°. Default: augment.quarterTurnProb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarter_turn_prob: Option<f64>,
}

impl SecondView {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Device for the augmentation after crop and resize.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum AugmentDevice {
    /// The loader's threads.
    #[default]
    Cpu,
    /// The training device, in batches: frees the CPUs; results differ by up to 2/255. Without a GPU the same
    /// operations run on the CPU.
    Gpu,
}
