//! A part of an image, decoded.

use crate::ops::Area;
use crate::{Crop, RgbImage};

/// How images are decoded for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecodeMode {
    /// Only the rows and columns that the crops need, each pixel as a decode of the whole image gives it.
    #[default]
    Exact,
    /// Also at a half, a quarter or an eighth of the size where no crop has fewer pixels than its view even then, and
    /// with repeated instead of interpolated colour samples. This pays for photographs of megapixels (1.7 times the
    /// images a second where the longer side is 2,000); those of ImageNet, 0.2 megapixel, are seldom twice as large as a
    /// view, and gain 2 %.
    ///
    /// Error against [`Self::Exact`], measured on the resized 224-pixel crops of 250 photographs of ImageNet, in levels
    /// of 255: mean 0.105, the worst view's mean 2.67, the largest of any value 50; where every crop is decoded at
    /// half the size or less, the mean is about 0.6 (`cargo run --release -p simsiam-data
    /// --example rates error FOLDER`).
    Fast,
}

/// What a caller needs of an image.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The smallest rectangle around all crops.
    pub bounds: Crop,
    /// By how much, at the least, the crops will shrink in width and height; below 1, one of them grows.
    pub shrink: f64,
}

impl Wanted {
    /// All that the resize of `crops` to `size` × `size` needs.
    #[must_use]
    pub fn of(crops: [Crop; 2], size: usize) -> Self {
        let [a, b] = crops;
        let (left, top) = (a.left.min(b.left), a.top.min(b.top));
        let right = (a.left + a.width).max(b.left + b.width);
        let bottom = (a.top + a.height).max(b.top + b.height);
        let side = a.width.min(a.height).min(b.width).min(b.height);
        Self {
            bounds: Crop { left, top, width: right - left, height: bottom - top },
            shrink: side as f64 / size as f64,
        }
    }
}

/// A part of an image, at full or reduced size.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The pixels.
    pub image: RgbImage,
    /// Of an image of more than three channels, those after the third, three in each; what the last has beyond the
    /// image's channels is unspecified.
    pub more: Vec<RgbImage>,
    /// Column and row of the first pixel, in the reduced image.
    pub origin: (usize, usize),
    /// How many times smaller than the file's the reduced image is.
    pub divisor: usize,
}

impl Part {
    /// All channels, three at a time.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &RgbImage> {
        std::iter::once(&self.image).chain(&self.more)
    }

    /// The whole image at full size has just been put into `image`.
    pub(super) fn is_whole(&mut self) {
        (self.origin, self.divisor) = ((0, 0), 1);
    }

    /// Where `crop`, in pixels of the file's image, is in this part.
    #[must_use]
    pub fn area(&self, crop: Crop) -> Area {
        let divisor = self.divisor as f64;
        // The last block of a reduced image may reach beyond the file's edge, but never the other way round.
        let place = |start: usize, origin: usize| start as f64 / divisor - origin as f64;
        Area {
            left: place(crop.left, self.origin.0),
            top: place(crop.top, self.origin.1),
            width: crop.width as f64 / divisor,
            height: crop.height as f64 / divisor,
        }
    }
}
