//! The vertical pass: each output row is a weighted sum of input rows.

use pulp::{Arch, Simd, WithSimd};

use super::weights::{PRECISION, Weights};

/// Fills `output` with rows of `row` bytes from the rows of `source`, which begin at the weights' reach, `stride` bytes
/// apart.
pub(super) fn pass(source: &[u8], stride: usize, row: usize, weights: &Weights, output: &mut [u8]) {
    Arch::new().dispatch(Pass { source, stride, row, weights, output });
}

struct Pass<'a> {
    source: &'a [u8],
    stride: usize,
    row: usize,
    weights: &'a Weights,
    output: &'a mut [u8],
}

impl WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        rows(self.source, self.stride, self.row, self.weights, self.output);
    }
}

#[inline(always)]
fn rows(source: &[u8], stride: usize, width: usize, weights: &Weights, output: &mut [u8]) {
    let row = |y: usize| &source[y * stride..y * stride + width];
    let values = weights.values.chunks_exact(weights.taps);
    let spans = weights.spans.iter().zip(values);
    for (y, (out, (&(first, count), values))) in output.chunks_exact_mut(width).zip(spans).enumerate() {
        if weights.identity {
            out.copy_from_slice(row(y));
            continue;
        }
        // Most views need two to five rows; sums of so many stay in registers.
        match count {
            1 => sum::<1>(|tap| row(first + tap), values, out),
            2 => sum::<2>(|tap| row(first + tap), values, out),
            3 => sum::<3>(|tap| row(first + tap), values, out),
            4 => sum::<4>(|tap| row(first + tap), values, out),
            5 => sum::<5>(|tap| row(first + tap), values, out),
            6 => sum::<6>(|tap| row(first + tap), values, out),
            _ => many(|tap| row(first + tap), &values[..count], out),
        }
    }
}

#[inline(always)]
fn sum<'a, const TAPS: usize>(row: impl Fn(usize) -> &'a [u8], weights: &[i32], out: &mut [u8]) {
    let rows: [&[u8]; TAPS] = std::array::from_fn(|tap| &row(tap)[..out.len()]);
    let weights: [i32; TAPS] = std::array::from_fn(|tap| weights[tap]);
    for (x, out) in out.iter_mut().enumerate() {
        let mut sum = 1 << (PRECISION - 1);
        for tap in 0..TAPS {
            sum += i32::from(rows[tap][x]) * weights[tap];
        }
        *out = clip(sum);
    }
}

/// Pixels of a strip whose sums are kept on the stack.
const STRIP: usize = 64;

#[inline(always)]
fn many<'a>(row: impl Fn(usize) -> &'a [u8], weights: &[i32], out: &mut [u8]) {
    for (strip, out) in out.chunks_mut(STRIP).enumerate() {
        let mut sums = [1i32 << (PRECISION - 1); STRIP];
        for (tap, weight) in weights.iter().enumerate() {
            let from = &row(tap)[strip * STRIP..strip * STRIP + out.len()];
            for (sum, value) in sums.iter_mut().zip(from) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = clip(sum);
        }
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
