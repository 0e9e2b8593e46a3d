//! The horizontal pass: each output pixel is a weighted sum of neighbours in its row.

use super::weights::{PRECISION, Weights};

/// How the channels of an image are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[height, width, 3]`.
    Interleaved,
    /// `[3, height, width]`.
    Planes,
}

/// Interleaved rows that begin at the weights' reach.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// From the first row's first pixel on; what lies between and behind the rows plays no part.
    pub(super) bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Number of rows.
    pub(super) count: usize,
}

/// Fills `output` (`[count, width, 3]` or `[3, count, width]`) from `rows`.
pub(super) fn pass(rows: Rows, weights: &Weights, width: usize, layout: Layout, output: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if !weights.identity
        && let Some(simd) = pulp::x86::V3::try_new()
    {
        return avx2::pass(simd, rows, weights, width, layout, output);
    }
    plain(rows, weights, width, layout, output);
}

fn plain(rows: Rows, weights: &Weights, width: usize, layout: Layout, output: &mut [u8]) {
    for y in 0..rows.count {
        let row = &rows.bytes[y * rows.stride..];
        let values = weights.values.chunks_exact(weights.taps);
        for (x, ((first, count), values)) in weights.spans.iter().zip(values).enumerate().take(width) {
            let mut sums = [1i32 << (PRECISION - 1); 3];
            if weights.identity {
                sums = [0, 1, 2].map(|channel| i32::from(row[x * 3 + channel]) << PRECISION);
            } else {
                for (pixel, weight) in row[first * 3..(first + count) * 3].chunks_exact(3).zip(values) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(*value) * weight;
                    }
                }
            }
            for (channel, sum) in sums.into_iter().enumerate() {
                let place = match layout {
                    Layout::Interleaved => (y * width + x) * 3 + channel,
                    Layout::Planes => (channel * rows.count + y) * width + x,
                };
                output[place] = (sum >> PRECISION).clamp(0, 255) as u8;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Four rows at a time, two in each register, one in each half of it.
    //!
    //! Vector instructions become calls where they stand in a function that is not compiled for them; closures are
    //! such functions, and so there are loops and structs here instead of `map` and `dispatch(|| …)`.

    use core::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;
    use pulp::{Simd, WithSimd, cast};

    use super::super::weights::{GROUP, LOW_BITS, PRECISION, Weights};
    use super::{Layout, Rows};

    /// Rows at a time.
    const ROWS: usize = 4;
    const ZERO: i8 = -128;
    /// Of four pixels, the first two (or last two) as pairs of 16 bits: reds, greens, blues, nothing.
    const FIRST: [i8; 16] = [0, ZERO, 3, ZERO, 1, ZERO, 4, ZERO, 2, ZERO, 5, ZERO, ZERO, ZERO, ZERO, ZERO];
    const SECOND: [i8; 16] = [6, ZERO, 9, ZERO, 7, ZERO, 10, ZERO, 8, ZERO, 11, ZERO, ZERO, ZERO, ZERO, ZERO];
    /// Four pixels of red, green, blue, nothing: as planes, and packed.
    const TO_PLANES: [i8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    const TO_PACKED: [i8; 16] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15];

    pub(super) fn pass(simd: V3, rows: Rows, weights: &Weights, width: usize, layout: Layout, output: &mut [u8]) {
        let job = Job { simd, rows, weights, width, output };
        match layout {
            Layout::Interleaved => Simd::vectorize(simd, Packed(job)),
            Layout::Planes => Simd::vectorize(simd, Planes(job)),
        }
    }

    struct Job<'a> {
        simd: V3,
        rows: Rows<'a>,
        weights: &'a Weights,
        width: usize,
        output: &'a mut [u8],
    }

    struct Packed<'a>(Job<'a>);

    struct Planes<'a>(Job<'a>);

    impl WithSimd for Packed<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Job { simd, rows, weights, width, output } = self.0;
            all::<false>(simd, rows, weights, width, output);
        }
    }

    impl WithSimd for Planes<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Job { simd, rows, weights, width, output } = self.0;
            all::<true>(simd, rows, weights, width, output);
        }
    }

    #[inline(always)]
    fn all<const PLANES: bool>(simd: V3, rows: Rows, weights: &Weights, width: usize, output: &mut [u8]) {
        for y in (0..rows.count).step_by(ROWS) {
            match weights.taps / GROUP {
                1 => four_rows::<PLANES, 1>(simd, rows, y, weights, width, output),
                2 => four_rows::<PLANES, 2>(simd, rows, y, weights, width, output),
                _ => four_rows::<PLANES, 0>(simd, rows, y, weights, width, output),
            }
        }
    }

    /// Rows `y` to `y + 3`, less those that do not exist. `GROUPS` is the number of groups of taps; 0: found at run time.
    #[inline(always)]
    fn four_rows<const PLANES: bool, const GROUPS: usize>(
        simd: V3,
        rows: Rows,
        y: usize,
        weights: &Weights,
        width: usize,
        output: &mut [u8],
    ) {
        let groups = if GROUPS == 0 { weights.taps / GROUP } else { GROUPS };
        let there = ROWS.min(rows.count - y);
        let lines: [&[u8]; ROWS] = std::array::from_fn(|row| &rows.bytes[(y + row.min(there - 1)) * rows.stride..]);
        let order = twice(simd, if PLANES { TO_PLANES } else { TO_PACKED });
        let spans = weights.spans.chunks_exact(GROUP).zip(weights.pairs.chunks_exact(GROUP * groups));
        for (block, (spans, pairs)) in spans.enumerate() {
            let mut sums = [[simd.avx._mm256_setzero_si256(); GROUP]; 2];
            for (pixel, (span, pairs)) in spans.iter().zip(pairs.chunks_exact(groups)).enumerate() {
                [sums[0][pixel], sums[1][pixel]] = one_pixel(simd, &lines, span.0 * 3, pairs);
            }
            let x = block * GROUP;
            let count = GROUP.min(width - x);
            for (half, sums) in sums.into_iter().enumerate() {
                let bytes = simd.avx2._mm256_shuffle_epi8(narrow(simd, sums), order);
                for (row, bytes) in (half * 2..there).zip(cast::<__m256i, [[u8; 16]; 2]>(bytes)) {
                    let line = y + row;
                    if PLANES {
                        for (channel, bytes) in bytes.as_chunks::<GROUP>().0.iter().take(3).enumerate() {
                            let place = (channel * rows.count + line) * width + x;
                            store(&mut output[place..place + count], bytes);
                        }
                    } else {
                        let place = (line * width + x) * 3;
                        if let Some(bytes) = bytes.first_chunk::<{ GROUP * 3 }>() {
                            store(&mut output[place..place + count * 3], bytes);
                        }
                    }
                }
            }
        }
    }

    /// All of `bytes` where there is room, in one move of a size known beforehand; else as many as there is room for.
    #[inline(always)]
    fn store<const SIZE: usize>(output: &mut [u8], bytes: &[u8; SIZE]) {
        match output.first_chunk_mut::<SIZE>() {
            Some(output) => *output = *bytes,
            None => output.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte),
        }
    }

    /// One output pixel of four rows, as 32-bit red, green, blue, nothing.
    #[inline(always)]
    fn one_pixel(simd: V3, lines: &[&[u8]; ROWS], start: usize, groups: &[[i32; 4]]) -> [__m256i; 2] {
        let V3 { avx, avx2, .. } = simd;
        let (first, second) = (twice(simd, FIRST), twice(simd, SECOND));
        let zero = avx._mm256_setzero_si256();
        let (mut high, mut low) = ([zero; 2], [avx._mm256_set1_epi32(1 << (PRECISION - 1)); 2]);
        for (group, pairs) in groups.iter().enumerate() {
            let mut weights = [zero; 4];
            for (weight, pair) in weights.iter_mut().zip(pairs) {
                *weight = avx._mm256_set1_epi32(*pair);
            }
            let at = start + group * GROUP * 3;
            for half in 0..2 {
                let bytes = cast::<[__m128i; 2], __m256i>([load(lines[half * 2], at), load(lines[half * 2 + 1], at)]);
                let (one, two) = (avx2._mm256_shuffle_epi8(bytes, first), avx2._mm256_shuffle_epi8(bytes, second));
                high[half] = avx2._mm256_add_epi32(high[half], avx2._mm256_madd_epi16(one, weights[0]));
                high[half] = avx2._mm256_add_epi32(high[half], avx2._mm256_madd_epi16(two, weights[1]));
                low[half] = avx2._mm256_add_epi32(low[half], avx2._mm256_madd_epi16(one, weights[2]));
                low[half] = avx2._mm256_add_epi32(low[half], avx2._mm256_madd_epi16(two, weights[3]));
            }
        }
        for half in 0..2 {
            let shifted = avx2._mm256_slli_epi32::<{ LOW_BITS as i32 }>(high[half]);
            low[half] = avx2._mm256_srai_epi32::<{ PRECISION as i32 }>(avx2._mm256_add_epi32(shifted, low[half]));
        }
        low
    }

    /// Four pixels of 32-bit values to bytes, clipped, in each half.
    #[inline(always)]
    fn narrow(simd: V3, pixels: [__m256i; GROUP]) -> __m256i {
        let [a, b, c, d] = pixels;
        let (ab, cd) = (simd.avx2._mm256_packs_epi32(a, b), simd.avx2._mm256_packs_epi32(c, d));
        simd.avx2._mm256_packus_epi16(ab, cd)
    }

    #[inline(always)]
    fn twice(_simd: V3, half: [i8; 16]) -> __m256i {
        cast([half, half])
    }

    /// Sixteen bytes, of which those behind the end are zero: the last pixels' loads reach a few bytes further than
    /// their weights, which are zero there.
    #[inline(always)]
    fn load(line: &[u8], at: usize) -> __m128i {
        match line.get(at..).and_then(<[u8]>::first_chunk::<16>) {
            Some(bytes) => cast(*bytes),
            None => load_end(line.get(at..).unwrap_or(&[])),
        }
    }

    #[cold]
    fn load_end(rest: &[u8]) -> __m128i {
        let mut bytes = [0u8; 16];
        bytes.iter_mut().zip(rest).for_each(|(byte, rest)| *byte = *rest);
        cast(bytes)
    }
}
