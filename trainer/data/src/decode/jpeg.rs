//! JPEG through libjpeg-turbo, which Pillow uses too: with the same (default) settings, pixels agree bit for bit.

use simsiam_jpeg::{Error, Header, Jpeg, Region, Request, Scale};

use super::format::{Format, Target};
use super::options::DecodeOptions;
use super::part::{DecodeMode, Part, Wanted};
use super::refusal::{Refusal, check_size};
use super::samples::{Colour, Samples, Values};
use super::scan::{has_end, is_progressive, may_be_partial};
use crate::{Crop, RgbImage};

/// A progressive file of a few bytes can ask for any number of passes over the whole image; real ones have about ten.
const MAX_SCANS: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct JpegDecoder {
    inks: Vec<u8>,
}

impl Format for JpegDecoder {
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let mut image = RgbImage { pixels: samples.values.take_bytes(), ..RgbImage::default() };
        let done = self.whole(open(bytes)?, &mut image);
        let RgbImage { width, height, pixels } = image;
        let values = Values::U8(pixels);
        *samples = Samples { width, height, channels: 3, colour: Colour::Rgb, values, ..Samples::default() };
        done
    }

    fn rgb(&mut self, bytes: &[u8], to: Target<'_>) -> Result<(), Refusal> {
        self.whole(open(bytes)?, to.image)
    }

    /// Only what `plan` wants, given the width and height.
    fn part(
        &mut self,
        bytes: &[u8],
        mode: DecodeMode,
        plan: &mut dyn FnMut(usize, usize) -> Wanted,
        _options: &DecodeOptions,
        _samples: &mut Samples,
        part: &mut Part,
    ) -> Result<(), Refusal> {
        let jpeg = open(bytes)?;
        let header = jpeg.header();
        let wanted = plan(header.width, header.height);
        part.is_whole();
        let Some((request, region)) = request(&header, mode, &wanted).filter(|_| may_be_partial(bytes)) else {
            return self.whole(jpeg, &mut part.image);
        };
        part.image.reshape(region.width, region.height);
        match jpeg.decode(&request, &mut part.image.pixels) {
            Err(error) if !error.is_recoverable() => {
                // What is wrong is for the whole image to say: a file's verdict must not depend on its crops.
                self.whole(open(bytes)?, &mut part.image)
            }
            _ => {
                (part.origin, part.divisor) = ((region.left, region.top), request.scale.divisor());
                Ok(())
            }
        }
    }
}

impl JpegDecoder {
    /// Warnings are no damage: the whole image is there, and Pillow shows it without a word. A file that lacks its end
    /// is damaged, unless only the end mark is missing.
    fn whole(&mut self, jpeg: Jpeg, image: &mut RgbImage) -> Result<(), Refusal> {
        let bytes = jpeg.bytes();
        match self.pixels(jpeg, image) {
            Ok(()) => Ok(()),
            Err(error) if error.is_recoverable() && has_end(bytes) => Ok(()),
            Err(error) if error.is_recoverable() || error.is_premature_end() => match self.lacks_only_end(bytes, image)
            {
                true => Ok(()),
                false => Err(Refusal::Broken("Premature end of JPEG file".to_owned())),
            },
            Err(error) => Err(broken(error)),
        }
    }

    fn pixels(&mut self, jpeg: Jpeg, image: &mut RgbImage) -> Result<(), Error> {
        let Header { width, height, inks, .. } = jpeg.header();
        image.reshape(width, height);
        if !inks {
            return jpeg.decode(&Request::default(), &mut image.pixels);
        }
        self.inks.resize(width * height * 4, 0);
        let decoded = jpeg.decode(&Request { inks, ..Request::default() }, &mut self.inks);
        rgb_from_inverted_cmyk(&self.inks, &mut image.pixels);
        decoded
    }

    /// Whether every pixel of a file without an end mark is there: then it comes out the same whatever follows it.
    /// A progressive file is refused, as Pillow refuses it: nobody knows how many scans are missing.
    fn lacks_only_end(&mut self, bytes: &[u8], image: &mut RgbImage) -> bool {
        if is_progressive(bytes) {
            return false;
        }
        let mut other = RgbImage::default();
        let mut filled = Vec::with_capacity(bytes.len() + 66);
        let mut decode = |filler: &[u8], into: &mut RgbImage| {
            filled.clear();
            filled.extend_from_slice(bytes);
            filled.extend_from_slice(filler);
            filled.extend_from_slice(&[0xFF, 0xD9]);
            let decoded = Jpeg::open(&filled, MAX_SCANS).and_then(|jpeg| self.pixels(jpeg, into));
            decoded.is_ok() || decoded.is_err_and(|error| error.is_recoverable())
        };
        decode(&FILLERS[0], image) && decode(&FILLERS[1], &mut other) && image.pixels == other.pixels
    }
}

/// A new decoder each time (0.4 µs): a used one keeps tables of earlier files, and a file that lacks its own would come
/// out by what was decoded before it.
fn open(bytes: &[u8]) -> Result<Jpeg<'_>, Refusal> {
    let jpeg = Jpeg::open(bytes, MAX_SCANS).map_err(broken)?;
    check_size(jpeg.header().width, jpeg.header().height)?;
    Ok(jpeg)
}

/// What to ask the library for, where less than everything will do; and the region that it then fills.
fn request(header: &Header, mode: DecodeMode, wanted: &Wanted) -> Option<(Request, Region)> {
    let unit = header.unit.filter(|_| !header.inks)?;
    let scale = match mode {
        DecodeMode::Exact => Scale::One,
        DecodeMode::Fast => {
            let scales = [Scale::Eighth, Scale::Quarter, Scale::Half];
            let fits = |scale: &Scale| wanted.shrink >= scale.divisor() as f64;
            scales.into_iter().find(fits).unwrap_or(Scale::One)
        }
    };
    let divisor = scale.divisor();
    let (width, height) = (header.width.div_ceil(divisor), header.height.div_ceil(divisor));
    let unit = unit / divisor;
    let Crop { left, top, width: columns, height: rows } = wanted.bounds;
    // Interpolated colours of a region's outermost columns lack a neighbour, so one more column is decoded on the left
    // and, since colour samples lie two pixels apart or four, more on the right.
    let left = (left / divisor).saturating_sub(1) / unit * unit;
    let right = ((wanted.bounds.left + columns).div_ceil(divisor) + MARGIN).min(width);
    let (top, bottom) = (top / divisor, (top + rows).div_ceil(divisor).min(height));
    let region = Region { left, top, width: right - left, height: bottom - top };
    let plain_upsampling = mode == DecodeMode::Fast;
    Some((Request { region: Some(region), scale, plain_upsampling, inks: false }, region))
}

/// Columns decoded beyond the rightmost one wanted.
const MARGIN: usize = 4;

fn broken(error: Error) -> Refusal {
    Refusal::Broken(error.to_string())
}

/// What [`JpegDecoder::lacks_only_end`] puts in place of what may be missing: as compressed rows they mean different pixels.
const FILLERS: [[u8; 64]; 2] = [[0x00; 64], [0xA5; 64]];

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
