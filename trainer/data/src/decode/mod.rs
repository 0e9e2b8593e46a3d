//! Encoded bytes to pixels: RGB, as `PIL.Image.open(…).convert("RGB")` gives them; samples of more than 8 bits by the
//! range that the caller chooses.
//!
//! Each format is a [`Format`] in a file of its own, which provides samples as the file has them; `rgb.rs` makes RGB of
//! all of them, and `layers.rs` images of other channels. EXIF orientation is ignored, as torchvision's image loader ignores
//! it; so are colour profiles and gamma.

mod bmp;
mod dicom;
mod format;
mod jpeg;
mod layers;
mod npy;
mod options;
mod part;
mod png;
mod refusal;
mod rgb;
mod samples;
mod scan;
mod sniff;
mod tiff;
mod webp;
mod ycbcr;

pub use options::DecodeOptions;
pub use part::{DecodeMode, Part, Wanted};
pub(crate) use png::is_8_bit_png;
pub use refusal::MAX_PIXELS;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::image::RGB;
use crate::{Error, RgbImage};
use format::{Format, Target};
use refusal::Refusal;
use samples::Samples;
use sniff::Kind;

/// Decodes JPEG, PNG, TIFF, BMP, WebP, DICOM and arrays of NumPy; one for each thread, since it keeps its buffers.
#[derive(Debug, Default)]
pub struct Decoder {
    options: DecodeOptions,
    samples: Samples,
    jpeg: jpeg::JpegDecoder,
    png: png::PngDecoder,
    tiff: tiff::TiffDecoder,
    bmp: bmp::BmpDecoder,
    webp: webp::WebpDecoder,
    dicom: dicom::DicomDecoder,
    npy: npy::NpyDecoder,
}

impl Decoder {
    /// A decoder with empty buffers and the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder with empty buffers.
    #[must_use]
    pub fn with(options: DecodeOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Decodes by these options from now on.
    pub fn set_options(&mut self, options: DecodeOptions) {
        self.options = options;
    }

    /// Channels of the images, [`DecodeOptions::channels`].
    #[must_use]
    pub fn channels(&self) -> usize {
        self.options.channels
    }

    /// Decodes `bytes` whole into `part`, with all channels.
    ///
    /// # Errors
    /// As [`Self::decode`]; also [`Error::Decode`] for an image of another number of channels.
    pub fn decode_whole(&mut self, name: &str, bytes: &[u8], part: &mut Part) -> Result<(), Error> {
        part.is_whole();
        if self.options.channels == RGB {
            part.more.clear();
            return self.decode(name, bytes, &mut part.image);
        }
        self.refuse(name, bytes, |format, options, samples| {
            format.samples(bytes, samples)?;
            samples.to_layers(options.range, options.channels, part)
        })
    }

    /// Decodes `bytes` to RGB into `image`; the format is detected by the first bytes, not by the name.
    ///
    /// Grayscale, palette, CMYK and YCCK images become RGB as Pillow's `convert("RGB")` makes them; an alpha channel is
    /// dropped. Of samples with more than 8 bits, [`DecodeOptions::range`] decides which values are black and white. Of
    /// several images in a file (pages, frames), the first is decoded.
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that are not a whole image of a known format, [`Error::TooLarge`] above
    /// [`MAX_PIXELS`]; `name` is named in the message.
    pub fn decode(&mut self, name: &str, bytes: &[u8], image: &mut RgbImage) -> Result<(), Error> {
        self.refuse(name, bytes, |format, options, samples| format.rgb(bytes, Target { options, samples, image }))
    }

    /// Decodes what `plan` wants, given the image's width and height; of other images than JPEG, of other than three
    /// channels, and where the file may be truncated, everything.
    ///
    /// # Errors
    /// As [`Self::decode_whole`], for the same files.
    pub fn decode_part(
        &mut self,
        name: &str,
        bytes: &[u8],
        mode: DecodeMode,
        plan: &mut dyn FnMut(usize, usize) -> Wanted,
        part: &mut Part,
    ) -> Result<(), Error> {
        if self.options.channels != RGB {
            self.decode_whole(name, bytes, part)?;
            plan(part.image.width, part.image.height);
            return Ok(());
        }
        self.refuse(name, bytes, |format, options, samples| format.part(bytes, mode, plan, options, samples, part))
    }

    /// Lets the format of `bytes` do the work, and names the image in its refusal.
    fn refuse(
        &mut self,
        name: &str,
        bytes: &[u8],
        work: impl FnOnce(&mut dyn Format, &DecodeOptions, &mut Samples) -> Result<(), Refusal>,
    ) -> Result<(), Error> {
        let Self { options, samples, .. } = self;
        let done = sniff::kind(bytes).and_then(|kind| {
            let format: &mut dyn Format = match kind {
                Kind::Jpeg => return work(&mut self.jpeg, options, samples),
                Kind::Png => &mut self.png,
                Kind::Tiff => &mut self.tiff,
                Kind::Bmp => &mut self.bmp,
                Kind::Webp => &mut self.webp,
                Kind::Dicom => &mut self.dicom,
                Kind::Npy => &mut self.npy,
            };
            // A damaged file may hit a bug of a library; it costs this image, not the run. All buffers are refilled for
            // the next one, so nothing half-done remains.
            catch_unwind(AssertUnwindSafe(|| work(format, options, samples))).unwrap_or_else(|_| {
                Err(Refusal::Broken(format!("its {kind} decoder failed on it; the file is damaged")))
            })
        });
        done.map_err(|refusal| match refusal {
            Refusal::Broken(reason) => Error::Decode { name: name.to_owned(), reason },
            Refusal::TooLarge { width, height } => {
                Error::TooLarge { name: name.to_owned(), width, height, limit: MAX_PIXELS }
            }
        })
    }
}
