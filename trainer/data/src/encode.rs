//! Encodes pixels as JPEG, for display.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoder;

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
