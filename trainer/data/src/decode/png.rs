//! PNG, each of its fifteen kinds of pixels.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits, Transformations};

use super::format::Format;
use super::refusal::{Refusal, check_size};
use super::samples::{Colour, Samples, Values};

/// Beyond the pixels themselves, what the decoder may take for ancillary chunks.
const CHUNK_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct PngDecoder {
    raw: Vec<u8>,
}

impl Format for PngDecoder {
    /// A file whose chunks are whole but that lacks its end is decoded, as by Pillow.
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let verdict = self.decode_whole(bytes, samples);
        match (&verdict, whole_chunks(bytes)) {
            (Err(Refusal::Broken(_)), Some(chunks)) => {
                const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
                self.decode_whole(&[chunks, END].concat(), samples).or(verdict)
            }
            _ => verdict,
        }
    }
}

impl PngDecoder {
    fn decode_whole(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let broken = |error: png::DecodingError| Refusal::Broken(error.to_string());
        let mut options = DecodeOptions::default();
        options.set_ignore_text_chunk(true);
        options.set_ignore_iccp_chunk(true);
        // As Pillow: checksums count in the header, and at the end of the deflated data, but not in the chunks of pixels.
        options.set_ignore_checksums(true);
        options.set_ignore_adler32(false);
        check_header(bytes)?;
        let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
        decoder.set_limits(Limits { bytes: CHUNK_BYTES });
        decoder.set_transformations(Transformations::IDENTITY);
        let (width, height) = {
            let info = decoder.read_header_info().map_err(broken)?;
            (info.width as usize, info.height as usize)
        };
        check_size(width, height)?;
        let mut reader = decoder.read_info().map_err(broken)?;
        let size = reader.output_buffer_size().ok_or_else(|| Refusal::Broken("its size overflows".to_owned()))?;
        // Cleared, since the decoder ORs an interlaced image's small pixels into what is there.
        self.raw.clear();
        self.raw.resize(size, 0);
        let frame = reader.next_frame(&mut self.raw).map_err(broken)?;
        // The checksums after the pixels are Pillow's to ignore, and so ours.
        let palette = reader.info().palette.as_deref().unwrap_or(&[]);
        let (colour, channels) = match frame.color_type {
            ColorType::Grayscale => (Colour::Gray, 1),
            ColorType::GrayscaleAlpha => (Colour::Gray, 2),
            ColorType::Rgb | ColorType::Indexed => (Colour::Rgb, 3),
            ColorType::Rgba => (Colour::Rgb, 4),
        };
        let mut levels = samples.values.take_bytes();
        let rows = self.raw.chunks_exact(frame.line_size);
        let values = match (frame.color_type, frame.bit_depth) {
            (ColorType::Indexed, depth) => {
                rows.for_each(|row| palette_row(row, depth, palette, width, &mut levels));
                Values::U8(levels)
            }
            (_, BitDepth::Sixteen) => {
                let pairs = self.raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                Values::U16(pairs.collect())
            }
            (_, BitDepth::Eight) => {
                // The memory changes hands; nothing is copied.
                Values::U8(std::mem::replace(&mut self.raw, levels))
            }
            (_, depth) => {
                let factor = match depth {
                    BitDepth::Four => 17,
                    BitDepth::Two => 85,
                    _ => 255,
                };
                rows.for_each(|row| levels.extend((0..width).map(|x| packed(row, depth, x) * factor)));
                Values::U8(levels)
            }
        };
        *samples = Samples { width, height, channels, colour, values, ..Samples::default() };
        Ok(())
    }
}

/// The chunk at `at`: its type and content, and its checksum; none where the file ends before the chunk does.
fn chunk(bytes: &[u8], at: usize) -> Option<(&[u8], u32)> {
    let length = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
    let typed = bytes.get(at + 4..at.checked_add(length)?.checked_add(8)?)?;
    let sum = u32::from_be_bytes(*bytes.get(at + 8 + length..)?.first_chunk()?);
    Some((typed, sum))
}

/// Refuses a critical chunk before the pixels whose checksum is wrong: its size or palette cannot be trusted.
fn check_header(bytes: &[u8]) -> Result<(), Refusal> {
    let mut at = SIGNATURE;
    while let Some((typed, sum)) = chunk(bytes, at) {
        let (kind, _) = typed.split_at(4);
        if kind == b"IDAT" {
            break;
        }
        if kind[0].is_ascii_uppercase() && crc32fast::hash(typed) != sum {
            let kind = String::from_utf8_lossy(kind);
            return Err(Refusal::Broken(format!("its chunk {kind} does not match its checksum")));
        }
        at += typed.len() + 8;
    }
    Ok(())
}

/// The file up to the end of its last whole chunk, if none of them is the end chunk.
fn whole_chunks(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = SIGNATURE;
    while let Some((typed, _)) = chunk(bytes, at) {
        if typed.starts_with(b"IEND") {
            return None;
        }
        at += typed.len() + 8;
    }
    bytes.get(..at)
}

/// Bytes before the first chunk.
const SIGNATURE: usize = 8;

/// Value `x` of a row whose samples have 1, 2, 4 or 8 bits.
fn packed(row: &[u8], depth: BitDepth, x: usize) -> u8 {
    let bits = depth as usize;
    let position = x * bits;
    let shift = 8 - bits - position % 8;
    let mask = ((1u16 << bits) - 1) as u8;
    row.get(position / 8).map_or(0, |byte| (byte >> shift) & mask)
}

/// Appends the colours of a row of `width` indices; an index beyond the palette is black.
fn palette_row(row: &[u8], depth: BitDepth, palette: &[u8], width: usize, out: &mut Vec<u8>) {
    for x in 0..width {
        let index = usize::from(packed(row, depth, x)) * 3;
        out.extend_from_slice(palette.get(index..index + 3).unwrap_or(&[0, 0, 0]));
    }
}

/// Whether the file is a PNG whose samples have at most 8 bits.
pub(crate) fn is_8_bit_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.get(24).is_some_and(|depth| *depth <= 8)
}
