//! DICOM's run-length encoding (PS3.5, annex G): a segment for each byte of a sample, the high byte first, each of them
//! packed as by PackBits.

use super::pixels::Layout;
use crate::decode::refusal::Refusal;

const HEADER: usize = 64;
/// Segments that the header has room for.
const MAX_SEGMENTS: usize = 15;

/// The frame as an uncompressed one, samples of a pixel together, little-endian.
pub(super) fn unpack(fragment: &[u8], layout: &Layout) -> Result<Vec<u8>, Refusal> {
    let broken = |what: &str| Refusal::Broken(format!("DICOM: the run-length encoded frame {what}"));
    let sample = layout.bytes();
    let pixel = sample * layout.channels;
    let header = fragment.get(..HEADER).ok_or_else(|| broken("has no header"))?;
    let mut words =
        header.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize);
    if pixel > MAX_SEGMENTS || words.next() != Some(pixel) {
        return Err(broken("does not have a segment for each byte of a pixel"));
    }
    let starts: Vec<usize> = words.take(pixel).collect();
    let pixels = layout.width * layout.height;
    // The densest packing has 128 equal bytes in two.
    if fragment.len().saturating_mul(64) < pixels * pixel {
        return Err(broken("is truncated"));
    }
    let mut frame = vec![0; pixels * pixel];
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(fragment.len());
        let segment = fragment.get(*start..end).ok_or_else(|| broken("has segments out of order"))?;
        let (channel, byte) = (index / sample, sample - 1 - index % sample);
        let mut places = frame.iter_mut().skip(channel * sample + byte).step_by(pixel);
        let (mut rest, mut left) = (segment, pixels);
        while left > 0 {
            let (head, tail) = rest.split_first().ok_or_else(|| broken("is truncated"))?;
            let (count, used) = match *head as i8 {
                literal @ 0.. => {
                    let count = (literal as usize + 1).min(left);
                    let run = tail.get(..count).ok_or_else(|| broken("is truncated"))?;
                    places.by_ref().zip(run).for_each(|(place, value)| *place = *value);
                    (count, count)
                }
                // No operation.
                -128 => (0, 0),
                repeated => {
                    let count = (1 + usize::from(repeated.unsigned_abs())).min(left);
                    let value = *tail.first().ok_or_else(|| broken("is truncated"))?;
                    places.by_ref().take(count).for_each(|place| *place = value);
                    (count, 1)
                }
            };
            left -= count;
            rest = &tail[used..];
        }
    }
    Ok(frame)
}
