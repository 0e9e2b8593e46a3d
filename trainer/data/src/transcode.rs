//! Placeholder until the pixel branch is merged.
use crate::ops::Resizer;
use crate::view::Crop;
use crate::{Decoder, Error, RgbImage};

/// Target size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSize {
    /// Keep.
    Keep,
    /// Max side.
    MaxSide(u32),
    /// Short side.
    ShortSide(u32),
}

impl std::fmt::Display for TargetSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keep => write!(f, "keep"),
            Self::MaxSide(n) => write!(f, "maxSide {n}"),
            Self::ShortSide(n) => write!(f, "shortSide {n}"),
        }
    }
}

/// Transcoder.
#[derive(Debug)]
pub struct Transcoder {
    size: TargetSize,
    quality: u8,
    decoder: Decoder,
    image: RgbImage,
}

impl Transcoder {
    /// New.
    #[must_use]
    pub fn new(size: TargetSize, quality: u8) -> Self {
        Self { size, quality, decoder: Decoder::new(), image: RgbImage::default() }
    }

    /// Transcode.
    ///
    /// # Errors
    /// Decode.
    pub fn transcode(&mut self, name: &str, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.decoder.decode(name, bytes, &mut self.image)?;
        out.clear();
        if self.size == TargetSize::Keep && bytes.starts_with(&[0xff, 0xd8]) {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let (w, h) = (self.image.width, self.image.height);
        let scale = match self.size {
            TargetSize::Keep => 1.0,
            TargetSize::MaxSide(n) => f64::from(n) / w.max(h) as f64,
            TargetSize::ShortSide(n) => f64::from(n) / w.min(h) as f64,
        }
        .min(1.0);
        let (nw, nh) = (((w as f64 * scale) as usize).max(1), ((h as f64 * scale) as usize).max(1));
        let mut small = RgbImage::new(nw, nh);
        let whole = Crop { left: 0, top: 0, width: w, height: h };
        Resizer::default().resize(&self.image, whole, (nw, nh), crate::ops::Layout::Interleaved, &mut small.pixels);
        let image = turbojpeg::Image {
            pixels: &small.pixels[..],
            width: nw,
            pitch: nw * 3,
            height: nh,
            format: turbojpeg::PixelFormat::RGB,
        };
        let jpeg = turbojpeg::compress(image, i32::from(self.quality), turbojpeg::Subsamp::Sub2x2)
            .map_err(|e| Error::Decode { name: name.into(), reason: e.to_string() })?;
        out.extend_from_slice(&jpeg);
        Ok(())
    }
}
