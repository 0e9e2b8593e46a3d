//! Pillow's antialiased bilinear resize of a part of an image, in its 22-bit fixed point.

use crate::RgbImage;
use crate::view::Crop;

/// Fractional bits of the weights: 32 less 8 for the pixel less 2 for overshoot, as in Pillow.
const PRECISION: u32 = 22;

/// A resizer with its buffers.
#[derive(Debug, Default)]
pub struct Resizer {
    horizontal: Weights,
    vertical: Weights,
    between: Vec<u8>,
}

/// For each output position, which input positions count how much.
#[derive(Debug, Default)]
struct Weights {
    /// First input position, counted from `reach.0`, and number of inputs, for each output position.
    spans: Vec<(usize, usize)>,
    /// `taps` weights for each output position.
    values: Vec<i32>,
    taps: usize,
    /// The input positions that count for any output.
    reach: (usize, usize),
    /// The size stays: each output is its input.
    identity: bool,
}

impl Weights {
    /// The triangle filter, widened by the scale when shrinking.
    ///
    /// From `input` to `output` positions, of which only `count` from `start` on are kept.
    fn bilinear(&mut self, input: usize, output: usize, start: usize, count: usize) {
        self.identity = input == output;
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = stretch;
        self.taps = support.ceil() as usize * 2 + 1;
        self.spans.clear();
        self.values.clear();
        self.values.resize(count * self.taps, 0);
        let inverse = 1.0 / stretch;
        let mut exact = vec![0.0f64; self.taps];
        for (position, values) in self.values.chunks_exact_mut(self.taps).enumerate() {
            let center = ((position + start) as f64 + 0.5) * scale;
            // `as` cuts off towards zero and to at least 0, as Pillow's cast and its comparison do.
            let first = (center - support + 0.5) as usize;
            let count = ((center + support + 0.5) as usize).min(input) - first;
            let mut sum = 0.0;
            for (tap, weight) in exact.iter_mut().take(count).enumerate() {
                *weight = triangle(((tap + first) as f64 - center + 0.5) * inverse);
                sum += *weight;
            }
            for (value, weight) in values.iter_mut().zip(&exact).take(count) {
                let weight = if sum == 0.0 { *weight } else { *weight / sum };
                *value = (0.5 + weight * f64::from(1u32 << PRECISION)) as i32;
            }
            self.spans.push((first, count));
        }
        let ends = |(first, count): &(usize, usize)| first + count;
        self.reach = if self.identity {
            (start, start + count)
        } else {
            (self.spans.first().map_or(0, |span| span.0), self.spans.last().map_or(0, ends))
        };
        self.spans.iter_mut().for_each(|span| span.0 = span.0.saturating_sub(self.reach.0));
    }

    fn reach(&self) -> (usize, usize) {
        self.reach
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

impl Resizer {
    /// Cuts `crop` out of `image` and resizes it to `width` × `height`: what PIL's `crop` and then `resize` with
    /// `BILINEAR` give. Pixels outside the crop play no part.
    ///
    /// `crop` must lie within the image; `output` takes `height * width * 3` bytes.
    pub fn resize(&mut self, image: &RgbImage, crop: Crop, width: usize, height: usize, output: &mut [u8]) {
        let window = Crop { left: 0, top: 0, width, height };
        self.resize_window(image, crop, (width, height), window, output);
    }

    /// As [`Self::resize`] to `size` (width, height), but makes only the `window` of the result.
    pub fn resize_window(
        &mut self,
        image: &RgbImage,
        crop: Crop,
        size: (usize, usize),
        window: Crop,
        output: &mut [u8],
    ) {
        self.horizontal.bilinear(crop.width, size.0, window.left, window.width);
        self.vertical.bilinear(crop.height, size.1, window.top, window.height);
        // Only the part of the crop that counts for the window.
        let (left, right) = self.horizontal.reach();
        let (top, bottom) = self.vertical.reach();
        let source = image.pixels.chunks_exact(image.width * 3).skip(crop.top + top).take(bottom - top);
        let source = source.map(|row| &row[(crop.left + left) * 3..(crop.left + right) * 3]);
        if vertical_first((crop.width, crop.height), size) {
            let stride = (right - left) * 3;
            self.between.resize(window.height * stride, 0);
            let rows: Vec<&[u8]> = source.collect();
            vertical(&rows, &mut self.between, stride, &self.vertical);
            let rows = self.between.chunks_exact(stride);
            rows.zip(output.chunks_exact_mut(window.width * 3)).for_each(|(from, to)| {
                horizontal(from, to, &self.horizontal);
            });
        } else {
            let stride = window.width * 3;
            self.between.resize((bottom - top) * stride, 0);
            source.zip(self.between.chunks_exact_mut(stride)).for_each(|(from, to)| {
                horizontal(from, to, &self.horizontal);
            });
            let rows: Vec<&[u8]> = self.between.chunks_exact(stride).collect();
            vertical(&rows, output, stride, &self.vertical);
        }
    }
}

/// Whether the vertical pass comes first, as from Pillow 13.0 on it does when the height shrinks by over twice as many
/// pixels as the width. (Before, the horizontal always came first; that moves some pixels by one level.)
fn vertical_first(from: (usize, usize), to: (usize, usize)) -> bool {
    from.1.saturating_sub(to.1) > 2 * from.0.saturating_sub(to.0)
}

/// One row; `source` begins at the weights' reach.
fn horizontal(source: &[u8], row: &mut [u8], weights: &Weights) {
    if weights.identity {
        row.copy_from_slice(source);
        return;
    }
    let values = weights.values.chunks_exact(weights.taps);
    for ((out, (first, count)), values) in row.chunks_exact_mut(3).zip(&weights.spans).zip(values) {
        let mut sums = [1i32 << (PRECISION - 1); 3];
        for (pixel, weight) in source[first * 3..(first + count) * 3].chunks_exact(3).zip(values) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = clip(sum);
        }
    }
}

/// All rows; `rows` begin at the weights' reach.
fn vertical(rows: &[&[u8]], output: &mut [u8], stride: usize, weights: &Weights) {
    let mut sums = vec![0i32; stride];
    let values = weights.values.chunks_exact(weights.taps);
    for (y, ((out, (first, count)), values)) in
        output.chunks_exact_mut(stride).zip(&weights.spans).zip(values).enumerate()
    {
        if weights.identity {
            out.copy_from_slice(rows[y]);
            continue;
        }
        sums.fill(1 << (PRECISION - 1));
        for (row, weight) in rows[*first..first + count].iter().zip(values) {
            for (sum, value) in sums.iter_mut().zip(*row) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(&sums) {
            *out = clip(*sum);
        }
    }
}
