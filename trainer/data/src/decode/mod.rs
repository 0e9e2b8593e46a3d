//! Encoded bytes to RGB pixels, as `PIL.Image.open(…).convert("RGB")` gives them.
//!
//! EXIF orientation is ignored, as torchvision's image loader ignores it; so are colour profiles and gamma.

mod jpeg;
mod png;

use crate::{Error, RgbImage};

/// Most pixels an image may have; Pillow refuses the same images as decompression bombs.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Why an image cannot be decoded, before its name is known.
enum Refusal {
    Broken(String),
    TooLarge { width: u64, height: u64 },
}

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

    /// Decodes `bytes` into `image`; which format they are in is told by their first bytes, not by the name.
    ///
    /// Grayscale, palette, CMYK, YCCK and 16-bit images become RGB as Pillow's `convert("RGB")` makes them; an alpha
    /// channel is dropped.
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that are not a whole JPEG or PNG image, [`Error::TooLarge`] above [`MAX_PIXELS`];
    /// `name` stands in the message.
    pub fn decode(&mut self, name: &str, bytes: &[u8], image: &mut RgbImage) -> Result<(), Error> {
        let done = if bytes.starts_with(&[0xFF, 0xD8]) {
            self.jpeg.decode(bytes, image)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            self.png.decode(bytes, image)
        } else if bytes.is_empty() {
            Err(Refusal::Broken("the file is empty".to_owned()))
        } else {
            Err(Refusal::Broken("neither JPEG nor PNG by its first bytes".to_owned()))
        };
        done.map_err(|refusal| match refusal {
            Refusal::Broken(reason) => Error::Decode { name: name.to_owned(), reason },
            Refusal::TooLarge { width, height } => {
                Error::TooLarge { name: name.to_owned(), width, height, limit: MAX_PIXELS }
            }
        })
    }
}

/// Refuses sizes of zero and beyond [`MAX_PIXELS`], before any memory is taken for them.
fn check_size(width: usize, height: usize) -> Result<(), Refusal> {
    let (width, height) = (width as u64, height as u64);
    if width == 0 || height == 0 {
        return Err(Refusal::Broken(format!("its size is {width}x{height}")));
    }
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(Refusal::TooLarge { width, height }),
    }
}
