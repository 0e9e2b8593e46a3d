//! BMP of all depths and of both run-length encodings, by `image`.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder as Reader;
use image::{ColorType, ImageDecoder, ImageError};

use super::format::Format;
use super::refusal::{Refusal, check_size};
use super::samples::{Colour, Samples, Values};

#[derive(Debug, Default)]
pub(super) struct BmpDecoder;

impl Format for BmpDecoder {
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let broken = |error: ImageError| Refusal::Broken(format!("BMP: {error}"));
        let reader = Reader::new(Cursor::new(bytes)).map_err(broken)?;
        let (width, height) = reader.dimensions();
        let (width, height) = (width as usize, height as usize);
        check_size(width, height)?;
        let (colour, channels) = match reader.color_type() {
            ColorType::L8 => (Colour::Gray, 1),
            ColorType::Rgb8 => (Colour::Rgb, 3),
            ColorType::Rgba8 => (Colour::Rgb, 4),
            other => return Err(Refusal::Broken(format!("BMP: {other:?} is not read"))),
        };
        let mut values = samples.values.take_bytes();
        values.resize(width * height * channels, 0);
        reader.read_image(&mut values).map_err(broken)?;
        let values = Values::U8(values);
        *samples = Samples { width, height, channels, colour, values, ..Samples::default() };
        Ok(())
    }
}
