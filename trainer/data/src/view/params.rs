//! What decides a view: the parameters drawn at random for training, the fixed ones for evaluation.

use crate::image::MAX_CHANNELS;
use crate::ops::Jitter;
use crate::{Crop, Error};

/// Everything that was drawn at random for one view; the rest is arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewParams {
    /// What part of the image is resized to the view.
    pub crop: Crop,
    /// Colour jitter, if any.
    pub jitter: Option<Jitter>,
    /// Whether colours are dropped.
    pub grayscale: bool,
    /// The blur's σ in pixels (Pillow's `radius`), if any.
    pub blur: Option<f32>,
    /// The smallest value that solarisation inverts, if any.
    pub solarize: Option<u8>,
    /// Whether left and right are exchanged.
    pub flip: bool,
    /// Whether top and bottom are exchanged.
    pub vertical_flip: bool,
    /// Quarter turns, counter-clockwise, after the flips: 0 to 3.
    pub quarter_turns: u8,
}

/// The view for evaluation: shorter side to `resize`, the centre `crop` × `crop`, normalised; nothing random.
#[derive(Debug, Clone)]
pub struct EvalView {
    /// Length of the shorter side after resizing, in pixels (256 for ImageNet).
    pub resize: u32,
    /// Side of the centre crop, at most `resize` (224 for ImageNet).
    pub crop: u32,
    /// Mean of each of the C channels, on values from 0 to 1.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub std: Vec<f64>,
}

impl EvalView {
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
        check_side("crop", self.crop)?;
        check_side("resize", self.resize)?;
        if self.crop > self.resize {
            return Err(Error::option("resize", self.resize, format!("at least crop = {}", self.crop)));
        }
        check_channels(&self.mean, &self.std)
    }
}

/// Longest side of a view; beyond it, buffers would no longer be small.
const MAX_SIDE: u32 = 4096;

pub(super) fn check_side(field: &'static str, side: u32) -> Result<(), Error> {
    if (1..=MAX_SIDE).contains(&side) {
        return Ok(());
    }
    Err(Error::option(field, side, format!("1 to {MAX_SIDE} pixels")))
}

pub(super) fn check_channels(mean: &[f64], std: &[f64]) -> Result<(), Error> {
    if !(1..=MAX_CHANNELS).contains(&mean.len()) {
        return Err(Error::option(
            "mean",
            format!("{mean:?}"),
            format!("1 to {MAX_CHANNELS} numbers, one for each channel"),
        ));
    }
    if std.len() == mean.len() && std.iter().all(|x| x.is_finite() && *x > 0.0) {
        return Ok(());
    }
    Err(Error::option("std", format!("{std:?}"), format!("{} positive numbers, one for each channel", mean.len())))
}
