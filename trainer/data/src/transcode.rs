//! Encoded images to smaller encoded images, for packing data sets.

use turbojpeg::{Compressor, PixelFormat, Subsamp};

use crate::decode::is_8_bit_png;
use crate::image::RGB;
use crate::ops::{Filter, Layout, Resizer};
use crate::source::pages;
use crate::{Crop, DecodeOptions, Decoder, Error, Part, RgbImage, encode_png};

/// How large a transcoded image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSize {
    /// As large as it is.
    Keep,
    /// Its longer side at most this many pixels.
    MaxSide(u32),
    /// Its shorter side at most this many pixels.
    ShortSide(u32),
}

impl TargetSize {
    /// Width and height of what becomes of an image; it keeps its shape, to the nearest pixel, and never grows.
    #[must_use]
    pub fn of(self, width: usize, height: usize) -> (usize, usize) {
        let (side, limit) = match self {
            Self::Keep => return (width, height),
            Self::MaxSide(limit) => (width.max(height), limit as usize),
            Self::ShortSide(limit) => (width.min(height), limit as usize),
        };
        if side <= limit {
            return (width, height);
        }
        let scaled = |length: usize| ((length * limit + side / 2) / side).max(1);
        (scaled(width), scaled(height))
    }
}

impl std::fmt::Display for TargetSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keep => write!(f, "keep"),
            Self::MaxSide(side) => write!(f, "maxSide {side}"),
            Self::ShortSide(side) => write!(f, "shortSide {side}"),
        }
    }
}

/// Decodes, shrinks and encodes images, as JPEG but for pages; one for each thread, since it keeps its buffers.
///
/// Metadata is dropped, and so is the EXIF orientation, which the loaders ignore too. The same input always gives the
/// same bytes.
#[derive(Debug)]
pub struct Transcoder {
    size: TargetSize,
    quality: u8,
    decoder: Decoder,
    resizer: Resizer,
    compressor: Compressor,
    part: Part,
    shrunk: RgbImage,
}

/// From here on, colours are stored at full resolution.
const FULL_COLOUR_QUALITY: u8 = 93;

impl Transcoder {
    /// A transcoder to `size` at JPEG quality `quality` (1 to 100): 4:2:0 up to 92, 4:4:4 above.
    ///
    /// # Errors
    /// [`Error::Option`] for a side of 0 or a quality out of range; [`Error::Worker`] when there is no memory for an
    /// encoder.
    pub fn new(size: TargetSize, quality: u8) -> Result<Self, Error> {
        if let TargetSize::MaxSide(0) | TargetSize::ShortSide(0) = size {
            return Err(Error::option("side", 0, "at least 1 pixel"));
        }
        if !(1..=100).contains(&quality) {
            return Err(Error::option("quality", quality, "1 to 100"));
        }
        let compressor = Self::compressor(quality)
            .map_err(|error| Error::Worker { what: format!("could not make a JPEG encoder: {error}") })?;
        Ok(Self {
            size,
            quality,
            decoder: Decoder::new(),
            resizer: Resizer::with(Filter::Lanczos),
            compressor,
            part: Part::default(),
            shrunk: RgbImage::default(),
        })
    }

    fn compressor(quality: u8) -> turbojpeg::Result<Compressor> {
        let mut compressor = Compressor::new()?;
        compressor.set_quality(i32::from(quality))?;
        compressor.set_subsamp(if quality < FULL_COLOUR_QUALITY { Subsamp::Sub2x2 } else { Subsamp::None })?;
        // Tables made for the image: a few per cent fewer bytes, to be read in every epoch, for the same pixels.
        compressor.set_optimize(true)?;
        Ok(compressor)
    }

    /// Decodes by these options instead of the default ones.
    #[must_use]
    pub fn decoding(mut self, options: DecodeOptions) -> Self {
        self.decoder = Decoder::with(options);
        self
    }

    /// Puts the file that becomes of `bytes` into `out`, replacing what it holds; `name` is the sample's.
    ///
    /// An image that is made smaller becomes a JPEG. Of the others:
    /// - a JPEG is passed on as it is; with a target size, only if re-encoding does not make it shorter;
    /// - an 8-bit PNG becomes a JPEG;
    /// - a page of a TIFF file with several becomes a PNG of the same pixels, since its file has the other pages too;
    /// - an image of other than three channels is passed on as it is;
    /// - everything else is passed on as it is, and decodes to the same pixels by the same options.
    ///
    /// # Errors
    /// [`Error::Decode`] and [`Error::TooLarge`] as [`Decoder::decode`] gives them; `name` is named in the message. Also
    /// [`Error::Decode`] for an image that JPEG cannot hold, with a side above 65,500 pixels.
    pub fn transcode(&mut self, name: &str, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        out.clear();
        self.decoder.decode_whole(name, bytes, &mut self.part)?;
        let is_jpeg = bytes.starts_with(&[0xFF, 0xD8]);
        if self.decoder.channels() != RGB {
            // JPEG and the PNG of a page would lose channels; the bytes of a page are its file's, with its directory first.
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let from = (self.part.image.width, self.part.image.height);
        let to = self.size.of(from.0, from.1);
        let page = pages::split(name).is_some();
        if page && from == to && (bytes.starts_with(b"II") || bytes.starts_with(b"MM")) {
            return encode_png(name, &self.part.image, out);
        }
        let lossy = is_jpeg && self.size != TargetSize::Keep || is_8_bit_png(bytes) && !page;
        if from == to && !lossy {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let Self { part: Part { image, .. }, shrunk, .. } = self;
        let image = if from == to {
            &*image
        } else {
            shrunk.reshape(to.0, to.1);
            let whole = Crop { left: 0, top: 0, width: from.0, height: from.1 };
            self.resizer.resize(image, whole, to, Layout::Interleaved, &mut shrunk.pixels);
            &*shrunk
        };
        let pixels = turbojpeg::Image {
            pixels: &image.pixels[..],
            width: image.width,
            pitch: image.width * 3,
            height: image.height,
            format: PixelFormat::RGB,
        };
        let encoded = self.compressor.compress_to_owned(pixels).map_err(|error| Error::Decode {
            name: name.to_owned(),
            reason: format!("cannot be encoded as JPEG of quality {}: {error}", self.quality),
        })?;
        let stays = is_jpeg && from == to && bytes.len() <= encoded.len();
        out.extend_from_slice(if stays { bytes } else { &encoded });
        Ok(())
    }
}
