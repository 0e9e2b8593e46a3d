//! From samples of any type to 8-bit RGB.

use super::refusal::Refusal;
use super::samples::{Colour, Sample, Samples, Values};
use crate::image::RGB;
use crate::{RgbImage, ValueRange};

impl Samples {
    /// Makes 8-bit RGB of the samples; `range` decides which values are black and white where they have more bits.
    pub(super) fn to_rgb(&self, range: ValueRange, image: &mut RgbImage) -> Result<(), Refusal> {
        let Self { width, height, channels, .. } = *self;
        if self.colour == Colour::Bands {
            let reason = format!(
                "it has {channels} channels, which are neither gray nor RGB; set dataset.channels to {channels}, or make an RGB \
                 image of three of them"
            );
            return Err(Refusal::Broken(reason));
        }
        image.reshape(width, height);
        self.to_levels(range, RGB, &mut image.pixels)
    }

    /// Makes bytes of the first `per_pixel` samples of each pixel, those of a pixel together; three of a gray image are
    /// equal.
    pub(super) fn to_levels(&self, range: ValueRange, per_pixel: usize, out: &mut [u8]) -> Result<(), Refusal> {
        let Self { width, height, channels, .. } = *self;
        if self.values.len() != width * height * channels || channels < self.colours() {
            let reason = format!("it has {} samples for {width}x{height} pixels of {channels}", self.values.len());
            return Err(Refusal::Broken(reason));
        }
        let out = &mut Levels { per_pixel, bytes: out };
        match &self.values {
            Values::U8(values) => self.spread(values, out, |v| v),
            Values::U16(values) if range == ValueRange::Pillow && channels > 1 => {
                self.spread(values, out, |v| (v >> 8) as u8);
            }
            Values::U16(values) => self.scale(values, range, (0.0, f64::from(u16::MAX)), out),
            Values::I16(values) => self.scale(values, range, (f64::from(i16::MIN), f64::from(i16::MAX)), out),
            Values::U32(values) => self.scale(values, range, (0.0, f64::from(u32::MAX)), out),
            Values::I32(values) => self.scale(values, range, (f64::from(i32::MIN), f64::from(i32::MAX)), out),
            Values::F32(values) => self.scale(values, range, (0.0, 1.0), out),
            Values::F64(values) => self.scale(values, range, (0.0, 1.0), out),
        }
        // Pillow inverts 8-bit images alone.
        if self.inverted && (range != ValueRange::Pillow || matches!(self.values, Values::U8(_))) {
            out.bytes.iter_mut().for_each(|value| *value = 255 - *value);
        }
        Ok(())
    }

    /// Samples of a pixel that are its colour.
    fn colours(&self) -> usize {
        match self.colour {
            Colour::Gray => 1,
            Colour::Rgb => 3,
            Colour::Bands => self.channels,
        }
    }

    fn scale<T: Sample>(&self, values: &[T], range: ValueRange, of_type: (f64, f64), out: &mut Levels) {
        let (low, high) = match range {
            ValueRange::Pillow => return self.spread(values, out, T::clipped),
            ValueRange::Auto => self.limits.unwrap_or(of_type),
            ValueRange::Fixed { low, high } => (low, high),
            ValueRange::Percentiles { low, high } => self.percentiles(values, low, high),
        };
        self.spread(values, out, |value| level(value.double(), low, high));
    }

    /// Writes the values of each pixel through `level`.
    fn spread<T: Copy>(&self, values: &[T], out: &mut Levels, level: impl Fn(T) -> u8) {
        let pixels = values.chunks_exact(self.channels).zip(out.bytes.chunks_exact_mut(out.per_pixel));
        match (out.per_pixel, self.colour) {
            (RGB, Colour::Gray) => pixels.for_each(|(pixel, out)| out.fill(level(pixel[0]))),
            (RGB, _) => {
                pixels
                    .for_each(|(pixel, out)| out.copy_from_slice(&[level(pixel[0]), level(pixel[1]), level(pixel[2])]));
            }
            _ => {
                pixels.for_each(|(pixel, out)| out.iter_mut().zip(pixel).for_each(|(out, value)| *out = level(*value)))
            }
        }
    }

    /// Two percentiles of the values of all colours.
    fn percentiles<T: Sample>(&self, values: &[T], low: f64, high: f64) -> (f64, f64) {
        let colours = values.chunks_exact(self.channels).flat_map(|pixel| &pixel[..self.colours()]);
        let mut values: Vec<T> = colours.copied().filter(|value| !value.double().is_nan()).collect();
        (percentile(&mut values, low), percentile(&mut values, high))
    }
}

/// Where the bytes of an image go.
struct Levels<'a> {
    per_pixel: usize,
    bytes: &'a mut [u8],
}

/// The percentile by linear interpolation between the two values next to it, rounding as NumPy does; 0 of no values.
fn percentile<T: Sample>(values: &mut [T], percent: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let place = percent / 100.0 * last as f64;
    let below = (place.floor() as usize).min(last);
    let (_, at, above) = values.select_nth_unstable_by(below, |a, b| a.double().total_cmp(&b.double()));
    let low = at.double();
    let high = above.iter().map(|value| value.double()).fold(f64::INFINITY, f64::min);
    let fraction = place - below as f64;
    match above.is_empty() {
        true => low,
        false if fraction >= 0.5 => high - (high - low) * (1.0 - fraction),
        false => low + (high - low) * fraction,
    }
}

/// The level of `value` between black at `low` and white at `high`; of an empty range, black up to `low` and white above.
fn level(value: f64, low: f64, high: f64) -> u8 {
    // `as` clips, and makes 0 of NaN.
    ((value - low) / (high - low) * 255.0 + 0.5).floor() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(values: Values, channels: usize) -> Samples {
        let width = values.len() / channels;
        Samples { width, height: 1, channels, colour: Colour::Gray, limits: None, inverted: false, values }
    }

    fn first_of_pixels(samples: &Samples, range: ValueRange) -> Vec<u8> {
        let mut image = RgbImage::default();
        assert!(samples.to_rgb(range, &mut image).is_ok());
        assert!(image.pixels.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        image.pixels.iter().step_by(3).copied().collect()
    }

    #[test]
    fn values_become_levels_by_range() {
        let u16s = || gray(Values::U16(vec![0, 128, 129, 300, 32768, 65535]), 1);
        assert_eq!(first_of_pixels(&u16s(), ValueRange::Auto), [0, 0, 1, 1, 128, 255]);
        assert_eq!(first_of_pixels(&u16s(), ValueRange::Pillow), [0, 128, 129, 255, 255, 255]);
        let fixed = ValueRange::Fixed { low: 100.0, high: 355.0 };
        assert_eq!(first_of_pixels(&u16s(), fixed), [0, 28, 29, 200, 255, 255]);
        let floats = gray(Values::F32(vec![f32::NAN, -1.0, 0.0, 0.5, 1.0, f32::INFINITY]), 1);
        assert_eq!(first_of_pixels(&floats, ValueRange::Auto), [0, 0, 0, 128, 255, 255]);
        assert_eq!(first_of_pixels(&floats, ValueRange::Pillow), [0, 0, 0, 0, 1, 255]);
        let signed = gray(Values::I16(vec![i16::MIN, -1, 0, i16::MAX]), 1);
        assert_eq!(first_of_pixels(&signed, ValueRange::Auto), [0, 127, 128, 255]);
        let limited = Samples { limits: Some((0.0, 4095.0)), ..gray(Values::U16(vec![0, 2048, 4095, 9999]), 1) };
        assert_eq!(first_of_pixels(&limited, ValueRange::Auto), [0, 128, 255, 255]);
        let inverted = Samples { inverted: true, ..gray(Values::U16(vec![0, 65535]), 1) };
        assert_eq!(first_of_pixels(&inverted, ValueRange::Auto), [255, 0]);
    }

    #[test]
    fn eight_bits_are_not_touched_by_any_range() {
        for range in [
            ValueRange::Auto,
            ValueRange::Pillow,
            ValueRange::Fixed { low: 0.0, high: 4095.0 },
            ValueRange::Percentiles { low: 10.0, high: 90.0 },
        ] {
            assert_eq!(first_of_pixels(&gray(Values::U8(vec![0, 7, 255]), 1), range), [0, 7, 255]);
        }
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([1, 2, 4, 8, 16], [10, 60, 95]) = [1.4, 5.6, 14.4]
        let mut values = [16.0, 1.0, 8.0, 2.0, 4.0f64];
        for (percent, expected) in [(0.0, 1.0), (10.0, 1.4), (60.0, 5.6), (95.0, 14.4), (100.0, 16.0)] {
            assert!((percentile(&mut values, percent) - expected).abs() < 1e-12, "{percent}");
        }
        // Alpha, here 65535, does not count.
        let with_alpha = gray(Values::U16(vec![100, 65535, 200, 65535, 300, 65535]), 2);
        let range = ValueRange::Percentiles { low: 0.0, high: 100.0 };
        assert_eq!(first_of_pixels(&with_alpha, range), [0, 128, 255]);
        assert_eq!(first_of_pixels(&gray(Values::U16(vec![9, 9]), 1), range), [0, 0], "one value alone is black");
        assert_eq!(first_of_pixels(&gray(Values::F32(vec![f32::NAN]), 1), range), [0]);
    }

    #[test]
    fn bands_are_refused() {
        let bands = Samples { colour: Colour::Bands, ..gray(Values::U8(vec![0; 5]), 5) };
        assert!(bands.to_rgb(ValueRange::Auto, &mut RgbImage::default()).is_err());
    }
}
