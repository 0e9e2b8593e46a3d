//! WebP, lossy and lossless, by `image-webp`; of an animation the first frame.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder as Reader};

use super::format::Format;
use super::refusal::{Refusal, check_size};
use super::samples::{Colour, Samples, Values};

/// Beyond the pixels themselves, what the decoder may take for metadata.
const CHUNK_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct WebpDecoder;

impl Format for WebpDecoder {
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let broken = |error: DecodingError| Refusal::Broken(format!("WebP: {error}"));
        let mut reader = Reader::new(Cursor::new(bytes)).map_err(broken)?;
        reader.set_memory_limit(CHUNK_BYTES);
        let (width, height) = reader.dimensions();
        let (width, height) = (width as usize, height as usize);
        check_size(width, height)?;
        let channels = if reader.has_alpha() { 4 } else { 3 };
        let mut values = samples.values.take_bytes();
        values.resize(width * height * channels, 0);
        reader.read_image(&mut values).map_err(broken)?;
        let values = Values::U8(values);
        *samples = Samples { width, height, channels, colour: Colour::Rgb, values, ..Samples::default() };
        Ok(())
    }
}
