//! Encodes pixels as JPEG, for display, and as PNG, to keep them.

use std::borrow::Cow;

use turbojpeg::{Image, PixelFormat, Subsamp};

use crate::{Error, RgbImage};

/// The image as a JPEG file of `quality` (1 to 100), colours at full resolution.
///
/// # Errors
/// [`Error::Worker`] when the encoder refuses it: a side of 0 or above 65,500, or pixels that do not fill it.
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, Error> {
    let pixels = Image {
        pixels: &image.pixels[..],
        width: image.width,
        pitch: image.width * 3,
        height: image.height,
        format: PixelFormat::RGB,
    };
    turbojpeg::compress(pixels, i32::from(quality), Subsamp::None)
        .map(|jpeg| jpeg.to_vec())
        .map_err(|error| Error::Worker { what: format!("could not encode an image as JPEG: {error}") })
}

/// Appends the image as a PNG file to `out`, with one channel where all pixels are grey; `name` is named in errors.
///
/// # Errors
/// [`Error::Decode`] when the encoder refuses it: a side of 0.
pub(crate) fn encode_png(name: &str, image: &RgbImage, out: &mut Vec<u8>) -> Result<(), Error> {
    let grey = image.pixels.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
    let (colour, pixels) = match grey {
        true => (png::ColorType::Grayscale, Cow::Owned(image.pixels.iter().step_by(3).copied().collect::<Vec<u8>>())),
        false => (png::ColorType::Rgb, Cow::Borrowed(&image.pixels)),
    };
    let mut encoder = png::Encoder::new(out, image.width as u32, image.height as u32);
    encoder.set_color(colour);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(&pixels)?;
            writer.finish()
        })
        .map_err(|error| Error::Decode { name: name.to_owned(), reason: format!("cannot be encoded as PNG: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoder;

    #[test]
    fn encoded_png_decodes_to_same_pixels() {
        for pixels in [[200, 40, 90].repeat(8 * 16), [7, 7, 7].repeat(8 * 16)] {
            let (image, mut file) = (RgbImage { width: 8, height: 16, pixels }, Vec::new());
            encode_png("x", &image, &mut file).unwrap();
            let mut back = RgbImage::default();
            Decoder::new().decode("x", &file, &mut back).unwrap();
            assert_eq!(back, image);
        }
    }

    #[test]
    fn encoded_jpeg_decodes_to_similar_pixels() {
        let image = RgbImage { width: 8, height: 16, pixels: [200, 40, 90].repeat(8 * 16) };
        let mut back = RgbImage::default();
        Decoder::new().decode("x", &encode_jpeg(&image, 95).unwrap(), &mut back).unwrap();
        assert_eq!((back.width, back.height), (8, 16));
        assert!(back.pixels.iter().zip(&image.pixels).all(|(a, b)| a.abs_diff(*b) < 4));
        assert!(encode_jpeg(&RgbImage::default(), 95).is_err());
    }
}
