//! From samples of any type to 8-bit images of any number of channels.

use super::part::Part;
use super::refusal::Refusal;
use super::samples::{Colour, Samples};
use crate::image::RGB;
use crate::ops::luma;
use crate::{RgbImage, ValueRange};

impl Samples {
    /// Makes 8-bit samples of `channels` for each pixel: the luma of colours for one, RGB for three; otherwise the image
    /// must have as many.
    pub(super) fn to_layers(&self, range: ValueRange, channels: usize, part: &mut Part) -> Result<(), Refusal> {
        let Part { image, more, .. } = part;
        match (channels, self.colour) {
            (RGB, _) => {
                more.clear();
                return self.to_rgb(range, image);
            }
            (1, Colour::Rgb) => {
                more.clear();
                self.to_rgb(range, image)?;
                image.pixels.chunks_exact_mut(RGB).for_each(|pixel| pixel.fill(luma(pixel[0], pixel[1], pixel[2])));
                return Ok(());
            }
            (1, Colour::Gray) => {}
            _ if channels == self.channels => {}
            _ => {
                let found = self.channels;
                let reason = format!("it has {found} channels, expected {channels}, the number of dataset.channels");
                return Err(Refusal::Broken(reason));
            }
        }
        let mut bytes = vec![0; self.width * self.height * channels];
        self.to_levels(range, channels, &mut bytes)?;
        more.resize_with(channels.div_ceil(RGB) - 1, RgbImage::default);
        for (layer, first) in std::iter::once(image).chain(more).zip((0..).step_by(RGB)) {
            layer.reshape(self.width, self.height);
            let taken = first..channels.min(first + RGB);
            for (pixel, out) in bytes.chunks_exact(channels).zip(layer.pixels.chunks_exact_mut(RGB)) {
                out[..taken.len()].copy_from_slice(&pixel[taken.clone()]);
            }
        }
        Ok(())
    }
}
