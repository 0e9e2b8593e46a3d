//! How the images of a data set are decoded.

use crate::ValueRange;
use crate::image::RGB;

/// How the images of a data set are decoded: a property of the set, so that training, evaluation, reports and packing
/// all see the same pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeOptions {
    /// Channels of the images, 1 to 32. With 1, colours become their luma; with 3, grayscale becomes RGB and alpha is
    /// dropped; otherwise every image must have this many samples per pixel, alpha included.
    pub channels: usize,
    /// Which values are black and white, where samples have more than 8 bits.
    pub range: ValueRange,
}

impl DecodeOptions {
    /// The same for images of `channels`.
    #[must_use]
    pub fn of_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }
}

impl Default for DecodeOptions {
    /// RGB, by the range of the sample type.
    fn default() -> Self {
        Self { channels: RGB, range: ValueRange::default() }
    }
}
