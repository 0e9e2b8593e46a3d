//! Encoded bytes to RGB pixels, as `PIL.Image.open(…).convert("RGB")` gives them.
//!
//! EXIF orientation is ignored, as torchvision's image loader ignores it; so are colour profiles and gamma.

mod jpeg;
mod part;
mod png;
mod refusal;
mod scan;
mod sniff;

pub use part::{DecodeMode, Part, Wanted};
pub use refusal::MAX_PIXELS;

use crate::{Error, RgbImage};
use refusal::Refusal;

/// Decodes JPEG and PNG; one for each thread, since it keeps its buffers.
#[derive(Debug, Default)]
pub struct Decoder {
    jpeg: jpeg::JpegDecoder,
    png: png::PngDecoder,
}

impl Decoder {
    /// A decoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `bytes` into `image`; the format is detected by the first bytes, not by the name.
    ///
    /// Grayscale, palette, CMYK, YCCK and 16-bit images become RGB as Pillow's `convert("RGB")` makes them; an alpha
    /// channel is dropped.
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that are not a whole JPEG or PNG image, [`Error::TooLarge`] above [`MAX_PIXELS`];
    /// `name` is named in the message.
    pub fn decode(&mut self, name: &str, bytes: &[u8], image: &mut RgbImage) -> Result<(), Error> {
        self.refuse(name, |decoder| match format(bytes)? {
            Format::Jpeg => decoder.jpeg.decode(bytes, image),
            Format::Png => decoder.png.decode(bytes, image),
        })
    }

    /// Decodes what `plan` wants, given the image's width and height; of PNG images, and where the file may be
    /// truncated, everything.
    ///
    /// # Errors
    /// As [`Self::decode`], for the same files.
    pub fn decode_part(
        &mut self,
        name: &str,
        bytes: &[u8],
        mode: DecodeMode,
        plan: &mut dyn FnMut(usize, usize) -> Wanted,
        part: &mut Part,
    ) -> Result<(), Error> {
        self.refuse(name, |decoder| match format(bytes)? {
            Format::Jpeg => decoder.jpeg.decode_part(bytes, mode, plan, part),
            Format::Png => {
                part.is_whole();
                decoder.png.decode(bytes, &mut part.image)?;
                plan(part.image.width, part.image.height);
                Ok(())
            }
        })
    }

    fn refuse(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<(), Refusal>) -> Result<(), Error> {
        work(self).map_err(|refusal| match refusal {
            Refusal::Broken(reason) => Error::Decode { name: name.to_owned(), reason },
            Refusal::TooLarge { width, height } => {
                Error::TooLarge { name: name.to_owned(), width, height, limit: MAX_PIXELS }
            }
        })
    }
}

enum Format {
    Jpeg,
    Png,
}

/// The format by the first bytes.
fn format(bytes: &[u8]) -> Result<Format, Refusal> {
    match bytes {
        [0xFF, 0xD8, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Format::Png),
        [] => Err(Refusal::Broken("the file is empty".to_owned())),
        _ => Err(Refusal::Broken(match sniff::name_of(bytes) {
            Some(name) => format!("it is {name}, whatever its name says; only JPEG and PNG are read"),
            None => "neither JPEG nor PNG by its first bytes".to_owned(),
        })),
    }
}
