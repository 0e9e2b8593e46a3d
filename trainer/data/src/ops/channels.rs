//! The jitter of images of any number of channels, on planes (`[C, height, width]`).

use pulp::{Simd, WithSimd};

use super::color::{JitterOp, blend};

/// Brightness and contrast among `ops`, in their order; saturation and hue, which need RGB, are left out.
///
/// Both treat all channels alike. Contrast is a blend with the mean of all values of all channels; with one channel, both
/// are what Pillow does to a grayscale image.
pub fn jitter_channels(planes: &mut [u8], ops: &[JitterOp]) {
    if planes.is_empty() {
        return;
    }
    for op in ops {
        let (base, factor) = match *op {
            JitterOp::Brightness(factor) => (0, factor),
            JitterOp::Contrast(factor) => (mean(planes), factor),
            JitterOp::Saturation(_) | JitterOp::Hue(_) => continue,
        };
        pulp::Arch::new().dispatch(Blend { planes, base, factor });
    }
}

/// The mean, rounded to the nearest byte.
fn mean(planes: &[u8]) -> u8 {
    let sum: u64 = planes.iter().map(|value| u64::from(*value)).sum();
    (sum as f64 / planes.len() as f64 + 0.5) as u8
}

struct Blend<'a> {
    planes: &'a mut [u8],
    base: u8,
    factor: f32,
}

impl WithSimd for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        blend(self.planes, self.base, self.factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{brightness, contrast};

    #[test]
    fn jitter_of_equal_channels_is_that_of_a_gray_image() {
        let gray: Vec<u8> = (0..=255).rev().step_by(3).collect();
        let ops = [JitterOp::Contrast(1.3), JitterOp::Hue(0.2), JitterOp::Brightness(0.7), JitterOp::Saturation(1.4)];
        let mut rgb = gray.repeat(3);
        contrast(&mut rgb, 1.3);
        brightness(&mut rgb, 0.7);
        for channels in [1, 2, 5] {
            let mut planes = gray.repeat(channels);
            jitter_channels(&mut planes, &ops);
            assert_eq!(planes, rgb[..gray.len()].repeat(channels), "{channels} channels");
        }
    }

    #[test]
    fn contrast_is_around_the_mean_of_all_channels() {
        // The mean is 60; half the contrast halves each distance from it.
        let mut planes = vec![0, 20, 100, 120];
        jitter_channels(&mut planes, &[JitterOp::Contrast(0.5)]);
        assert_eq!(planes, [30, 40, 80, 90]);
        jitter_channels(&mut planes, &[JitterOp::Brightness(3.0)]);
        assert_eq!(planes, [90, 120, 240, 255]);
        jitter_channels(&mut [], &[JitterOp::Contrast(0.5)]);
    }
}
