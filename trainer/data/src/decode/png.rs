//! PNG, each of its fifteen kinds of pixels as Pillow's `convert("RGB")` makes them.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits, Transformations};

use super::refusal::{Refusal, check_size};
use crate::RgbImage;

/// Beyond the pixels themselves, what the decoder may take for ancillary chunks.
const CHUNK_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct PngDecoder {
    raw: Vec<u8>,
}

impl PngDecoder {
    /// A file whose chunks are whole but that lacks its end is decoded, as by Pillow.
    pub(super) fn decode(&mut self, bytes: &[u8], image: &mut RgbImage) -> Result<(), Refusal> {
        let verdict = self.decode_whole(bytes, image);
        match (&verdict, whole_chunks(bytes)) {
            (Err(Refusal::Broken(_)), Some(chunks)) => {
                const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
                self.decode_whole(&[chunks, END].concat(), image).or(verdict)
            }
            _ => verdict,
        }
    }

    fn decode_whole(&mut self, bytes: &[u8], image: &mut RgbImage) -> Result<(), Refusal> {
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
        image.reshape(width, height);
        let depth = frame.bit_depth;
        for (row, out) in self.raw.chunks_exact(frame.line_size).zip(image.pixels.chunks_exact_mut(width * 3)) {
            match frame.color_type {
                ColorType::Grayscale => gray_row(row, depth, out),
                ColorType::Indexed => palette_row(row, depth, palette, out),
                ColorType::GrayscaleAlpha => spread_row(row, depth, 2, &[0, 0, 0], out),
                ColorType::Rgb => spread_row(row, depth, 3, &[0, 1, 2], out),
                ColorType::Rgba => spread_row(row, depth, 4, &[0, 1, 2], out),
            }
        }
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

fn gray_row(row: &[u8], depth: BitDepth, out: &mut [u8]) {
    for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
        let gray = match depth {
            // Pillow keeps 16-bit gray as such and clips it to 255; it does not scale it.
            BitDepth::Sixteen if row[2 * x] > 0 => 255,
            BitDepth::Sixteen => row[2 * x + 1],
            BitDepth::Eight => row[x],
            BitDepth::Four => packed(row, depth, x) * 17,
            BitDepth::Two => packed(row, depth, x) * 85,
            BitDepth::One => packed(row, depth, x) * 255,
        };
        pixel.fill(gray);
    }
}

fn palette_row(row: &[u8], depth: BitDepth, palette: &[u8], out: &mut [u8]) {
    for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
        let index = usize::from(packed(row, depth, x)) * 3;
        match palette.get(index..index + 3) {
            Some(colour) => pixel.copy_from_slice(colour),
            None => pixel.fill(0),
        }
    }
}

/// Pixels of `channels` samples of 8 or 16 bits, of which Pillow takes the high byte; `take` picks three of them.
fn spread_row(row: &[u8], depth: BitDepth, channels: usize, take: &[usize; 3], out: &mut [u8]) {
    let bytes = if depth == BitDepth::Sixteen { 2 } else { 1 };
    for (pixel, out) in row.chunks_exact(channels * bytes).zip(out.chunks_exact_mut(3)) {
        for (out, channel) in out.iter_mut().zip(take) {
            *out = pixel[channel * bytes];
        }
    }
}
