//! TIFF and BigTIFF, the first page: any number of samples of 1 to 64 bits, in strips or tiles, with pixels together or
//! in planes. The crate `tiff` reads the samples; what they mean is decided here, since the crate knows fewer kinds.

use std::io::Cursor;

use tiff::decoder::{Decoder as Reader, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffUnsupportedError};

use super::format::Format;
use super::refusal::{Refusal, check_size};
use super::samples::{Colour, MAX_BYTES, Samples, Values, check_samples};
use super::ycbcr;
use crate::ifd;

const PHOTOMETRIC: u16 = 262;

/// Values of the tag *PhotometricInterpretation*.
mod photometric {
    pub(super) const WHITE_IS_ZERO: u64 = 0;
    pub(super) const BLACK_IS_ZERO: u64 = 1;
    pub(super) const RGB: u64 = 2;
    pub(super) const PALETTE: u64 = 3;
    pub(super) const INKS: u64 = 5;
    pub(super) const YCBCR: u64 = 6;
}

#[derive(Debug, Default)]
pub(super) struct TiffDecoder {
    file: Vec<u8>,
}

impl Format for TiffDecoder {
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let meaning = ifd::short(bytes, PHOTOMETRIC).unwrap_or(photometric::BLACK_IS_ZERO);
        // The crate reads the samples of any image that claims to be grey, and refuses several other kinds.
        self.file.clear();
        self.file.extend_from_slice(bytes);
        ifd::set_short(&mut self.file, PHOTOMETRIC, photometric::BLACK_IS_ZERO as u16);
        let mut page = Page::read(&self.file)?;
        let palette = page.palette.take().filter(|_| meaning == photometric::PALETTE);
        let Page { width, height, mut channels, bits, alpha, .. } = page;
        let (colour, inverted) = match (meaning, channels) {
            (photometric::WHITE_IS_ZERO, 1 | 2) => (Colour::Gray, true),
            (photometric::BLACK_IS_ZERO, 1) => (Colour::Gray, false),
            (photometric::BLACK_IS_ZERO, 2) if alpha => (Colour::Gray, false),
            (photometric::WHITE_IS_ZERO | photometric::BLACK_IS_ZERO, _) => (Colour::Bands, false),
            (photometric::RGB, 3..) => (Colour::Rgb, false),
            (photometric::PALETTE, 1) | (photometric::INKS, 4..) | (photometric::YCBCR, 3) => (Colour::Rgb, false),
            _ => return Err(unsupported(format!("{channels} channels of {}", name_of(meaning)))),
        };
        let (mut values, limits) = page.interleaved()?;
        match (meaning, &mut values) {
            (photometric::PALETTE, values) => {
                *values = Values::U8(coloured(values, &palette.unwrap_or_default(), bits)?);
                channels = 3;
            }
            (photometric::INKS, Values::U8(inks)) => {
                *inks = inks.chunks_exact(channels).flat_map(rgb_of_inks).collect();
                channels = 3;
            }
            (photometric::YCBCR, Values::U8(pixels)) => ycbcr::to_rgb(pixels),
            (photometric::INKS | photometric::YCBCR, _) => {
                return Err(unsupported(format!("{} of {bits} bits", name_of(meaning))));
            }
            (_, Values::U8(levels)) if bits < 8 => {
                let white = u32::from(u8::MAX >> (8 - bits));
                levels.iter_mut().for_each(|value| *value = ((u32::from(*value) * 510 + white) / (2 * white)) as u8);
            }
            _ => {}
        }
        *samples = Samples { width, height, channels, colour, limits, inverted, values };
        Ok(())
    }
}

/// The samples of a page as the crate reads them.
struct Page {
    width: usize,
    height: usize,
    channels: usize,
    /// Bits of each sample.
    bits: u8,
    /// Whether each sample has a plane of its own.
    planar: bool,
    /// Whether the second channel is alpha.
    alpha: bool,
    palette: Option<Vec<u16>>,
    result: DecodingResult,
}

impl Page {
    fn read(file: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(Cursor::new(file)).map_err(broken)?;
        let (width, height) = reader.dimensions().map_err(broken)?;
        let (width, height) = (width as usize, height as usize);
        let one = |reader: &mut Reader<_>, tag, default| -> Result<u64, Refusal> {
            let values = reader.find_tag_unsigned_vec::<u64>(tag).map_err(broken)?.unwrap_or_default();
            Ok(values.first().copied().unwrap_or(default))
        };
        let channels = one(&mut reader, Tag::SamplesPerPixel, 1)? as usize;
        let bits = one(&mut reader, Tag::BitsPerSample, 1)?;
        let bits = u8::try_from(bits).map_err(|_| unsupported(format!("samples of {bits} bits")))?;
        let planar = one(&mut reader, Tag::PlanarConfiguration, 1)? == 2;
        // 1 and 2 are kinds of alpha.
        let alpha = matches!(one(&mut reader, Tag::ExtraSamples, 0)?, 1 | 2);
        let palette = reader.find_tag_unsigned_vec(Tag::ColorMap).map_err(broken)?;
        check_samples(width, height, channels, usize::from(bits).div_ceil(8))?;
        let (chunk_width, chunk_height) = reader.chunk_dimensions();
        // A strip is as high as the image, whatever it says.
        check_size(chunk_width as usize, (chunk_height as usize).min(height.next_multiple_of(1 << 12)))?;
        let limit = MAX_BYTES as usize;
        let mut limits = Limits::default();
        (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (limit, limit);
        let mut reader = reader.with_limits(limits);
        let mut result = DecodingResult::U8(Vec::new());
        reader.read_image_to_buffer(&mut result).map_err(broken)?;
        Ok(Self { width, height, channels, bits, planar, alpha, palette, result })
    }

    /// The samples of each pixel together, each in a place of its own; and the values that are black and white, where
    /// they are not those of the samples' new type.
    fn interleaved(self) -> Result<(Values, Option<(f64, f64)>), Refusal> {
        let Self { width, height, channels, bits, planar, result, .. } = self;
        let order = Order { pixels: width * height, channels, planar: planar && channels > 1 };
        let limits = match &result {
            DecodingResult::I8(_) => Some((-128.0, 127.0)),
            DecodingResult::U64(_) => Some((0.0, u64::MAX as f64)),
            DecodingResult::I64(_) => Some((i64::MIN as f64, i64::MAX as f64)),
            _ => None,
        };
        let values = match result {
            DecodingResult::U8(bytes) if bits < 8 => {
                let (planes, in_row) = if order.planar { (channels, width) } else { (1, width * channels) };
                let row_bytes = (in_row * usize::from(bits)).div_ceil(8);
                let rows = bytes.chunks_exact(row_bytes).take(height * planes);
                Values::U8(order.apply(rows.flat_map(|row| (0..in_row).map(|x| unpacked(row, bits, x))).collect())?)
            }
            DecodingResult::U8(values) => Values::U8(order.apply(values)?),
            DecodingResult::U16(values) => Values::U16(order.apply(values)?),
            DecodingResult::U32(values) => Values::U32(order.apply(values)?),
            DecodingResult::I8(values) => Values::I16(order.apply(values.into_iter().map(i16::from).collect())?),
            DecodingResult::I16(values) => Values::I16(order.apply(values)?),
            DecodingResult::I32(values) => Values::I32(order.apply(values)?),
            DecodingResult::F16(values) => Values::F32(order.apply(values.into_iter().map(f32::from).collect())?),
            DecodingResult::F32(values) => Values::F32(order.apply(values)?),
            DecodingResult::F64(values) => Values::F64(order.apply(values)?),
            DecodingResult::U64(values) => Values::F64(order.apply(values.into_iter().map(|v| v as f64).collect())?),
            DecodingResult::I64(values) => Values::F64(order.apply(values.into_iter().map(|v| v as f64).collect())?),
        };
        Ok((values, limits))
    }
}

/// Where the samples of a pixel are.
struct Order {
    pixels: usize,
    channels: usize,
    planar: bool,
}

impl Order {
    /// Puts the samples of each pixel together.
    fn apply<T: Copy>(&self, mut values: Vec<T>) -> Result<Vec<T>, Refusal> {
        let Self { pixels, channels, planar } = *self;
        let expected = pixels * channels;
        if values.len() < expected {
            return Err(Refusal::Broken(format!("TIFF: it has {} samples instead of {expected}", values.len())));
        }
        values.truncate(expected);
        if planar {
            let planes = || (0..pixels).flat_map(|pixel| values[pixel..].iter().step_by(pixels).copied());
            return Ok(planes().collect());
        }
        Ok(values)
    }
}

/// Sample `x` of a row whose samples have less than 8 bits; those of 3, 5, 6 or 7 may continue in the next byte.
fn unpacked(row: &[u8], bits: u8, x: usize) -> u8 {
    let position = x * usize::from(bits);
    let byte = |at: usize| row.get(at).map_or(0, |byte| u16::from(*byte));
    let two = byte(position / 8) << 8 | byte(position / 8 + 1);
    (two >> (16 - position % 8 - usize::from(bits))) as u8 & (u8::MAX >> (8 - bits))
}

/// The colours that a palette has for 8-bit indices; it has all red values first, of 16 bits. Pillow takes their high
/// bytes.
fn coloured(indices: &Values, palette: &[u16], bits: u8) -> Result<Vec<u8>, Refusal> {
    let Values::U8(indices) = indices else { return Err(unsupported(format!("a palette for {bits} bits"))) };
    let colours = 1 << bits;
    if palette.len() < 3 * colours {
        return Err(Refusal::Broken(format!(
            "TIFF: its palette has {} values instead of {}",
            palette.len(),
            3 * colours
        )));
    }
    let colour = |index: &u8| [0, 1, 2].map(|plane| (palette[plane * colours + usize::from(*index)] >> 8) as u8);
    Ok(indices.iter().flat_map(colour).collect())
}

/// Cyan, magenta, yellow and black as RGB, by Pillow's arithmetic.
fn rgb_of_inks(inks: &[u8]) -> [u8; 3] {
    let white = 255 - u32::from(inks[3]);
    [0, 1, 2].map(|ink| {
        let product = u32::from(inks[ink]) * white + 128;
        white.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}

fn name_of(meaning: u64) -> String {
    match meaning {
        photometric::WHITE_IS_ZERO | photometric::BLACK_IS_ZERO => "grey".to_owned(),
        photometric::RGB => "RGB".to_owned(),
        photometric::PALETTE => "a palette".to_owned(),
        photometric::INKS => "CMYK".to_owned(),
        photometric::YCBCR => "YCbCr".to_owned(),
        8..=10 => "CIE L*a*b*".to_owned(),
        other => format!("photometric interpretation {other}"),
    }
}

fn unsupported(what: String) -> Refusal {
    Refusal::Broken(format!("it is a TIFF image with {what}, which is not read"))
}

fn broken(error: TiffError) -> Refusal {
    match error {
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(method)) => {
            unsupported(format!("compression {method:?}"))
        }
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedColorType(kind)) => {
            unsupported(format!("samples of {} bits", kind.bit_depth()))
        }
        TiffError::UnsupportedError(error) => unsupported(error.to_string()),
        TiffError::LimitsExceeded => Refusal::Broken("TIFF: its parts exceed the limits on memory".to_owned()),
        error => Refusal::Broken(format!("TIFF: {error}")),
    }
}
