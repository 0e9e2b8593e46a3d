//! Drawing a view's parameters, from the same distributions as torchvision's transforms.

use super::params::{ViewParams, check_side, check_std};
use crate::ops::{Jitter, JitterOp};
use crate::rng::CounterRng;
use crate::{Crop, Error};

/// The MoCo-v2 augmentation: RandomResizedCrop, ColorJitter, grayscale, Gaussian blur, horizontal flip, normalise.
///
/// [`Default`] has the SimSiam paper's values (section 3, "Data augmentation").
#[derive(Debug, Clone, PartialEq)]
pub struct TwoViews {
    /// Side of a view in pixels.
    pub crop_size: u32,
    /// Smallest crop, as a share of the image's area.
    pub min_scale: f64,
    /// Largest crop, as a share of the image's area.
    pub max_scale: f64,
    /// Probability of the colour jitter.
    pub jitter_prob: f64,
    /// Brightness factors are within 1 ± this.
    pub brightness: f64,
    /// Contrast factors are within 1 ± this.
    pub contrast: f64,
    /// Saturation factors are within 1 ± this.
    pub saturation: f64,
    /// Hue turns by up to ± this share of the circle; at most ½.
    pub hue: f64,
    /// Probability of grayscale.
    pub grayscale_prob: f64,
    /// Probability of the blur.
    pub blur_prob: f64,
    /// Smallest and largest σ of the blur, in pixels.
    pub blur_sigma: [f64; 2],
    /// Probability of the horizontal flip.
    pub flip_prob: f64,
    /// Mean of each channel, on values from 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviation of each channel.
    pub std: [f64; 3],
}

impl Default for TwoViews {
    fn default() -> Self {
        Self {
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
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

/// Narrowest and widest crop, width to height.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// How often a crop is drawn before the centre is taken.
const CROP_TRIES: usize = 10;

impl TwoViews {
    /// RandomResizedCrop and flip alone, as for training a linear classifier.
    #[must_use]
    pub fn crop_and_flip(crop_size: u32, min_scale: f64, max_scale: f64, mean: [f64; 3], std: [f64; 3]) -> Self {
        let plain = Self { jitter_prob: 0.0, grayscale_prob: 0.0, blur_prob: 0.0, ..Self::default() };
        Self { crop_size, min_scale, max_scale, mean, std, ..plain }
    }

    /// Checks the fields' ranges.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first field out of range.
    pub fn check(&self) -> Result<(), Error> {
        check_side("crop_size", self.crop_size)?;
        let within = |field, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::option(field, value, format!("{low} to {high}")))
        };
        within("max_scale", self.max_scale, f64::MIN_POSITIVE, 1.0)?;
        within("min_scale", self.min_scale, f64::MIN_POSITIVE, self.max_scale)?;
        for (field, value) in [
            ("jitter_prob", self.jitter_prob),
            ("grayscale_prob", self.grayscale_prob),
            ("blur_prob", self.blur_prob),
            ("flip_prob", self.flip_prob),
        ] {
            within(field, value, 0.0, 1.0)?;
        }
        for (field, value) in
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)]
        {
            within(field, value, 0.0, f64::from(f32::MAX))?;
        }
        within("hue", self.hue, 0.0, 0.5)?;
        let [low, high] = self.blur_sigma;
        within("blur_sigma[1]", high, 0.0, 100.0)?;
        within("blur_sigma[0]", low, 0.0, high)?;
        check_std(&self.std)
    }

    /// Draws one view's parameters for an image of `width` × `height` pixels.
    #[must_use]
    pub fn draw(&self, rng: &mut CounterRng, width: usize, height: usize) -> ViewParams {
        ViewParams {
            crop: self.draw_crop(rng, width, height),
            jitter: rng.chance(self.jitter_prob).then(|| self.draw_jitter(rng)),
            grayscale: rng.chance(self.grayscale_prob),
            blur: rng.chance(self.blur_prob).then(|| rng.uniform_in(self.blur_sigma[0], self.blur_sigma[1]) as f32),
            flip: rng.chance(self.flip_prob),
        }
    }

    fn draw_crop(&self, rng: &mut CounterRng, width: usize, height: usize) -> Crop {
        let area = width as f64 * height as f64;
        for _ in 0..CROP_TRIES {
            let target = area * rng.uniform_in(self.min_scale, self.max_scale);
            let ratio = rng.uniform_in(RATIO[0].ln(), RATIO[1].ln()).exp();
            // Python rounds halves to even, and so does this.
            let crop_width = (target * ratio).sqrt().round_ties_even() as usize;
            let crop_height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = rng.below((height - crop_height + 1) as u64) as usize;
                let left = rng.below((width - crop_width + 1) as u64) as usize;
                return Crop { left, top, width: crop_width, height: crop_height };
            }
        }
        central(width, height)
    }

    fn draw_jitter(&self, rng: &mut CounterRng) -> Jitter {
        let mut factor = |spread: f64| rng.uniform_in((1.0 - spread).max(0.0), 1.0 + spread) as f32;
        let mut ops = [
            JitterOp::Brightness(factor(self.brightness)),
            JitterOp::Contrast(factor(self.contrast)),
            JitterOp::Saturation(factor(self.saturation)),
            JitterOp::Hue(rng.uniform_in(-self.hue, self.hue)),
        ];
        for last in (1..ops.len()).rev() {
            ops.swap(last, rng.below(last as u64 + 1) as usize);
        }
        ops
    }
}

/// The largest crop at the image's centre whose shape is allowed.
fn central(width: usize, height: usize) -> Crop {
    let shape = width as f64 / height as f64;
    let (crop_width, crop_height) = if shape < RATIO[0] {
        (width, (width as f64 / RATIO[0]).round_ties_even() as usize)
    } else if shape > RATIO[1] {
        ((height as f64 * RATIO[1]).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    Crop { left: (width - crop_width) / 2, top: (height - crop_height) / 2, width: crop_width, height: crop_height }
}
