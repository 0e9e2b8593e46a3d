//! Drawing a view's parameters, from the same distributions as torchvision's transforms.

use super::params::{ViewParams, check_channels, check_side};
use super::probabilities::Probabilities;
use crate::image::RGB;
use crate::ops::{Jitter, JitterOp};
use crate::rng::CounterRng;
use crate::{Crop, Error};

/// The MoCo-v2 augmentation: RandomResizedCrop, ColorJitter, grayscale, Gaussian blur, horizontal flip, normalise; and where
/// they are asked for, solarisation after the blur, and a vertical flip and a turn after the horizontal flip.
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
    /// How likely the operations are in view 1 and in view 2.
    pub probabilities: [Probabilities; 2],
    /// Brightness factors are within 1 ± this.
    pub brightness: f64,
    /// Contrast factors are within 1 ± this.
    pub contrast: f64,
    /// Saturation factors are within 1 ± this.
    pub saturation: f64,
    /// Hue turns by up to ± this share of the circle; at most ½.
    pub hue: f64,
    /// Smallest and largest σ of the blur, in pixels.
    pub blur_sigma: [f64; 2],
    /// Smallest value that solarisation inverts.
    pub solarize_threshold: u8,
    /// Mean of each of the C channels, on values from 0 to 1. Saturation, hue and grayscale are for C = 3 alone.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub std: Vec<f64>,
}

impl Default for TwoViews {
    fn default() -> Self {
        Self {
            crop_size: 224,
            min_scale: 0.2,
            max_scale: 1.0,
            probabilities: [Probabilities::default(); 2],
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            blur_sigma: [0.1, 2.0],
            solarize_threshold: 128,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }
}

/// Narrowest and widest crop, width to height.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// How often a crop is drawn before the centre is taken.
const CROP_TRIES: usize = 10;

impl TwoViews {
    /// RandomResizedCrop of up to the whole image and horizontal flip alone, as for training a linear classifier.
    #[must_use]
    pub fn crop_and_flip(crop_size: u32, min_scale: f64, flip: f64, mean: Vec<f64>, std: Vec<f64>) -> Self {
        let probabilities = [Probabilities { flip, ..Probabilities::NONE }; 2];
        let plain = Self { saturation: 0.0, hue: 0.0, ..Self::default() };
        Self { crop_size, min_scale, max_scale: 1.0, probabilities, mean, std, ..plain }
    }

    /// C, the number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.mean.len()
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
        for (field, value) in self.probabilities.iter().flat_map(Probabilities::named) {
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
        check_channels(&self.mean, &self.std)?;
        if self.channels() != RGB {
            let grayscale = self.probabilities.iter().map(|probabilities| ("grayscale_prob", probabilities.grayscale));
            for (field, value) in [("saturation", self.saturation), ("hue", self.hue)].into_iter().chain(grayscale) {
                if value > 0.0 {
                    return Err(Error::option(field, value, "0 for images of other than three channels"));
                }
            }
        }
        Ok(())
    }

    /// Draws one view's parameters for an image of `width` × `height` pixels. `view` is 0 for view 1 and 1 for view 2; those
    /// after them take turns.
    #[must_use]
    pub fn draw(&self, rng: &mut CounterRng, view: u8, width: usize, height: usize) -> ViewParams {
        let prob = &self.probabilities[usize::from(view % 2)];
        let crop = self.draw_crop(rng, width, height);
        let jitter = rng.chance(prob.jitter).then(|| self.draw_jitter(rng));
        let grayscale = rng.chance(prob.grayscale);
        let blur = rng.chance(prob.blur).then(|| rng.uniform_in(self.blur_sigma[0], self.blur_sigma[1]) as f32);
        let flip = rng.chance(prob.flip);
        // The order of the draws is part of the views: new ones come last.
        let vertical_flip = prob.vertical_flip > 0.0 && rng.chance(prob.vertical_flip);
        let turned = prob.quarter_turn > 0.0 && rng.chance(prob.quarter_turn);
        let quarter_turns = if turned { 1 + rng.below(3) as u8 } else { 0 };
        let solarized = prob.solarize > 0.0 && rng.chance(prob.solarize);
        let solarize = solarized.then_some(self.solarize_threshold);
        ViewParams { crop, jitter, grayscale, blur, solarize, flip, vertical_flip, quarter_turns }
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

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 40_000;

    fn draws(views: &TwoViews, view: u8) -> Vec<ViewParams> {
        (0..DRAWS).map(|sample| views.draw(&mut CounterRng::view(5, 0, sample, view), view, 100, 80)).collect()
    }

    #[test]
    fn operations_are_drawn_with_the_probabilities_of_their_view() {
        let two = Probabilities {
            jitter: 0.5,
            blur: 0.1,
            solarize: 0.2,
            flip: 0.3,
            vertical_flip: 0.6,
            quarter_turn: 0.75,
            ..Probabilities::NONE
        };
        let views = TwoViews {
            probabilities: [Probabilities { blur: 1.0, ..Probabilities::NONE }, two],
            solarize_threshold: 9,
            ..TwoViews::default()
        };
        for params in draws(&views, 0) {
            assert!(params.blur.is_some() && !params.flip && !params.vertical_flip && !params.grayscale);
            assert_eq!((params.jitter, params.solarize, params.quarter_turns), (None, None, 0));
        }
        let params = draws(&views, 1);
        let share = |what: fn(&ViewParams) -> bool| params.iter().filter(|p| what(p)).count() as f64 / DRAWS as f64;
        for (what, measured, expected) in [
            ("jitter", share(|p| p.jitter.is_some()), 0.5),
            ("blur", share(|p| p.blur.is_some()), 0.1),
            ("solarize", share(|p| p.solarize == Some(9)), 0.2),
            ("flip", share(|p| p.flip), 0.3),
            ("vertical flip", share(|p| p.vertical_flip), 0.6),
            ("no turn", share(|p| p.quarter_turns == 0), 0.25),
            ("90°", share(|p| p.quarter_turns == 1), 0.25),
            ("180°", share(|p| p.quarter_turns == 2), 0.25),
            ("270°", share(|p| p.quarter_turns == 3), 0.25),
            // Independent of one another.
            ("all", share(|p| p.flip && p.vertical_flip && p.quarter_turns == 1 && p.solarize.is_some()), 0.009),
        ] {
            assert!((measured - expected).abs() < 0.01, "{what}: {measured}, expected {expected}");
        }
    }

    /// A run can be compared with one that has more operations: what both have is the same.
    #[test]
    fn later_operations_leave_what_is_drawn_before_them() {
        let later = Probabilities { solarize: 0.5, vertical_flip: 0.5, quarter_turn: 0.5, ..Probabilities::default() };
        let views = TwoViews { probabilities: [later; 2], ..TwoViews::default() };
        for (params, usual) in draws(&views, 1).into_iter().zip(draws(&TwoViews::default(), 1)) {
            assert_eq!(ViewParams { solarize: None, vertical_flip: false, quarter_turns: 0, ..params }, usual);
        }
    }
}
