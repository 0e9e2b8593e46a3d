//! The colours of an image.

use crate::RgbImage;

/// Standard deviation of every channel, in levels of 255, below which an image is blank. JPEG's noise on one colour is
/// below 1.
const BLANK: f64 = 2.0;
/// Mean difference of a pixel's largest and smallest channel, in levels of 255, below which an image is gray. JPEG's
/// noise on gray is below 2.
const GRAY: f64 = 3.0;

/// Statistics over the pixels of one image, on values from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageStatistics {
    /// Mean of each channel.
    pub mean: [f64; 3],
    /// Standard deviation of each channel.
    pub std: [f64; 3],
    /// Mean over the pixels of the difference between a pixel's largest and smallest channel.
    pub chroma: f64,
}

impl ImageStatistics {
    /// Statistics of an image; all zero for one without pixels.
    #[must_use]
    pub fn of(image: &RgbImage) -> Self {
        let (mut sums, mut squares, mut chroma) = ([0u64; 3], [0u64; 3], 0u64);
        for &[r, g, b] in image.pixels.as_chunks().0 {
            for (channel, value) in [r, g, b].into_iter().enumerate() {
                let value = u64::from(value);
                sums[channel] += value;
                squares[channel] += value * value;
            }
            chroma += u64::from(r.max(g).max(b) - r.min(g).min(b));
        }
        let pixels = (image.width * image.height).max(1) as f64;
        let mean = sums.map(|sum| sum as f64 / pixels);
        let mut std = [0.0; 3];
        for ((std, square), mean) in std.iter_mut().zip(squares).zip(mean) {
            *std = (square as f64 / pixels - mean * mean).max(0.0).sqrt() / 255.0;
        }
        Self { mean: mean.map(|mean| mean / 255.0), std, chroma: chroma as f64 / pixels / 255.0 }
    }

    /// Whether the image has one colour: every channel's standard deviation is below 2 of 255 levels.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.std.iter().all(|std| *std < BLANK / 255.0)
    }

    /// Whether the image has no colour: the channels of a pixel differ by less than 3 of 255 levels on average.
    #[must_use]
    pub fn is_gray(&self) -> bool {
        self.chroma < GRAY / 255.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, encode_jpeg};

    fn image(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> RgbImage {
        let at = |i: usize| pixel(i % width, i / width);
        RgbImage { width, height, pixels: (0..width * height).flat_map(at).collect() }
    }

    #[test]
    fn statistics_are_those_of_the_pixels() {
        let found = ImageStatistics::of(&image(2, 1, |x, _| if x == 0 { [0, 51, 255] } else { [255, 51, 0] }));
        assert_eq!(found, ImageStatistics { mean: [0.5, 0.2, 0.5], std: [0.5, 0.0, 0.5], chroma: 1.0 });
        assert_eq!(ImageStatistics::of(&RgbImage::default()).mean, [0.0; 3]);
    }

    #[test]
    fn blank_and_gray_images_are_recognised_after_jpeg() {
        let through_jpeg = |image: &RgbImage| {
            let mut back = RgbImage::default();
            Decoder::new().decode("x", &encode_jpeg(image, 50).unwrap(), &mut back).unwrap();
            ImageStatistics::of(&back)
        };
        let blank = through_jpeg(&image(40, 30, |_, _| [200, 30, 90]));
        assert!(blank.is_blank() && !blank.is_gray(), "{blank:?}");
        let ramp = through_jpeg(&image(40, 30, |x, _| [6 * x as u8; 3]));
        assert!(ramp.is_gray() && !ramp.is_blank(), "{ramp:?}");
        let tinted = through_jpeg(&image(40, 30, |x, _| [6 * x as u8, 6 * x as u8, 200]));
        assert!(!tinted.is_gray() && !tinted.is_blank(), "{tinted:?}");
        // A faint pattern is no blank image.
        let faint = ImageStatistics::of(&image(40, 30, |x, _| [100 + 6 * (x as u8 / 20); 3]));
        assert!(!faint.is_blank(), "{faint:?}");
    }
}
