//! JPEG through libjpeg-turbo, which Pillow uses too: with the same (default) settings, pixels agree bit for bit.

use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat};

use super::{Refusal, check_size};
use crate::RgbImage;

/// A progressive file of a few bytes can ask for any number of passes over the whole image; real ones have about ten.
const MAX_SCANS: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct JpegDecoder {
    cmyk: Vec<u8>,
}

impl JpegDecoder {
    pub(super) fn decode(&mut self, bytes: &[u8], image: &mut RgbImage) -> Result<(), Refusal> {
        // A new handle each time (0.4 µs): a used one keeps tables of earlier files, and a file that lacks its own would
        // come out by what was decoded before it.
        let mut turbo = Decompressor::new().map_err(broken)?;
        turbo.set_scan_limit(MAX_SCANS).map_err(broken)?;
        let header = turbo.read_header(bytes).map_err(broken)?;
        let (width, height) = (header.width, header.height);
        check_size(width, height)?;
        image.reshape(width, height);
        if matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK) {
            self.cmyk.resize(width * height * 4, 0);
            decompress(&mut turbo, bytes, (width, height), PixelFormat::CMYK, &mut self.cmyk)?;
            rgb_from_inverted_cmyk(&self.cmyk, &mut image.pixels);
            return Ok(());
        }
        decompress(&mut turbo, bytes, (width, height), PixelFormat::RGB, &mut image.pixels)
    }
}

fn broken(error: turbojpeg::Error) -> Refusal {
    Refusal::Broken(error.to_string())
}

fn decompress(
    turbo: &mut Decompressor,
    bytes: &[u8],
    (width, height): (usize, usize),
    format: PixelFormat,
    pixels: &mut [u8],
) -> Result<(), Refusal> {
    let output = Image { pixels, width, pitch: width * format.size(), height, format };
    match turbo.decompress(bytes, output) {
        Err(error) if !is_harmless(&error.to_string()) => Err(broken(error)),
        _ => Ok(()),
    }
}

/// Whether libjpeg-turbo only warned: the whole image is there, and Pillow shows it without a word.
///
/// "Premature end of JPEG file" is a warning too, but Pillow refuses such a file as truncated, and so is it refused here.
fn is_harmless(reason: &str) -> bool {
    ["Corrupt JPEG data", "Unknown Adobe color transform code", "Invalid SOS parameters", "Inconsistent progression"]
        .iter()
        .any(|warning| reason.contains(warning))
}

/// Pillow takes CMYK in JPEG files as inverted, as Adobe writes it, then multiplies ink by ink.
fn rgb_from_inverted_cmyk(cmyk: &[u8], rgb: &mut [u8]) {
    for (ink, pixel) in cmyk.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        let white = u32::from(ink[3]);
        for (out, ink) in pixel.iter_mut().zip(ink) {
            // 255 − k is `ink[3]` as stored; the rounding product of two bytes is Pillow's MULDIV255.
            let product = u32::from(255 - ink) * white + 128;
            let covered = ((product >> 8) + product) >> 8;
            *out = white.saturating_sub(covered) as u8;
        }
    }
}
