//! What every image format provides.

use super::options::DecodeOptions;
use super::part::{DecodeMode, Part, Wanted};
use super::refusal::Refusal;
use super::samples::Samples;
use crate::RgbImage;

/// One image format, by a decoder that keeps its buffers from file to file.
///
/// A format provides the samples as the file has them; what becomes of them is decided in one place,
/// [`Samples::to_rgb`]. A format that is decoded to 8-bit RGB by its library, or in part, does so itself.
pub(super) trait Format {
    /// Decodes the samples of the first image of a file.
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal>;

    /// Decodes a file to 8-bit RGB.
    fn rgb(&mut self, bytes: &[u8], to: Target<'_>) -> Result<(), Refusal> {
        self.samples(bytes, to.samples)?;
        to.samples.to_rgb(to.options.range, to.image)
    }

    /// Decodes what `plan` wants, given the width and height; here everything.
    fn part(
        &mut self,
        bytes: &[u8],
        _mode: DecodeMode,
        plan: &mut dyn FnMut(usize, usize) -> Wanted,
        options: &DecodeOptions,
        samples: &mut Samples,
        part: &mut Part,
    ) -> Result<(), Refusal> {
        part.is_whole();
        self.rgb(bytes, Target { options, samples, image: &mut part.image })?;
        plan(part.image.width, part.image.height);
        Ok(())
    }
}

/// Where a decoded image goes, and how.
pub(super) struct Target<'a> {
    pub(super) options: &'a DecodeOptions,
    /// Memory for the samples on their way.
    pub(super) samples: &'a mut Samples,
    pub(super) image: &'a mut RgbImage,
}
