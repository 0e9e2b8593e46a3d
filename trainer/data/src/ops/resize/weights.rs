//! The weights of Pillow's antialiased filters, in its 22-bit fixed point.

use super::filter::Filter;

/// Fractional bits of the weights: 32 less 8 for the pixel less 2 for overshoot, as in Pillow.
pub(super) const PRECISION: u32 = 22;

/// Weights are split into two 16-bit parts, of which the low one has this many bits: products of bytes and halves, and
/// their sums, are exact in the vector units' 16-bit multiply-and-add.
pub(super) const LOW_BITS: u32 = 11;

/// Taps that the horizontal pass handles at once.
pub(super) const GROUP: usize = 4;

/// For each output position, which input positions count how much.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// First input position, counted from `reach.0`, and number of inputs, for each output position.
    pub(super) spans: Vec<(usize, usize)>,
    /// `taps` weights for each output position; those beyond its inputs are zero.
    pub(super) values: Vec<i32>,
    pub(super) taps: usize,
    /// The same in groups of four, as pairs of 16 bits: high parts of taps 0 and 1, of 2 and 3, then the low parts.
    pub(super) pairs: Vec<[i32; 4]>,
    /// The input positions that count for any output.
    pub(super) reach: (usize, usize),
    /// The size stays: each output is its input.
    pub(super) identity: bool,
    exact: Vec<f64>,
}

/// A stretch along one axis: where it begins, in fractions of a pixel, and how long it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) start: f64,
    pub(super) length: f64,
}

impl Weights {
    /// The weights of `filter`, which is widened by the scale when shrinking.
    ///
    /// From `input` to `output` positions, of which only `count` from `start` on are kept. Positions outside `input`
    /// play no part. `reach` counts from the pixel in which `input` begins.
    pub(super) fn fill(&mut self, filter: Filter, input: Stretch, output: usize, start: usize, count: usize) {
        let offset = input.start - input.start.floor();
        let limit = (offset + input.length).ceil() as usize;
        self.identity = offset == 0.0 && input.length == output as f64;
        let scale = input.length / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        self.taps = (support.ceil() as usize * 2 + 1).next_multiple_of(GROUP);
        self.spans.clear();
        self.values.clear();
        self.values.resize(count * self.taps, 0);
        self.exact.clear();
        self.exact.resize(self.taps, 0.0);
        let inverse = 1.0 / stretch;
        let one = f64::from(1u32 << PRECISION);
        let mut most = 0;
        for (position, values) in self.values.chunks_exact_mut(self.taps).enumerate() {
            let center = offset + ((position + start) as f64 + 0.5) * scale;
            // `as` cuts off towards zero and to at least 0, as Pillow's cast and its comparison do.
            let first = (center - support + 0.5) as usize;
            let count = ((center + support + 0.5) as usize).min(limit).saturating_sub(first);
            let mut sum = 0.0;
            for (tap, weight) in self.exact.iter_mut().take(count).enumerate() {
                *weight = filter.at(((tap + first) as f64 - center + 0.5) * inverse);
                sum += *weight;
            }
            let total = if sum == 0.0 { 1.0 } else { sum };
            for (value, weight) in values.iter_mut().zip(&self.exact).take(count) {
                // To the nearest, halves away from zero.
                *value = (weight / total * one + 0.5f64.copysign(*weight)) as i32;
            }
            most = most.max(count);
            self.spans.push((first, count));
        }
        let ends = |(first, count): &(usize, usize)| first + count;
        self.reach = if self.identity {
            (start, start + count)
        } else {
            (self.spans.first().map_or(0, |span| span.0), self.spans.last().map_or(0, ends))
        };
        self.spans.iter_mut().for_each(|span| span.0 = span.0.saturating_sub(self.reach.0));
        self.trim(most.next_multiple_of(GROUP));
    }

    /// Leaves out taps that are zero everywhere.
    fn trim(&mut self, taps: usize) {
        if taps < self.taps {
            for (position, _) in self.spans.iter().enumerate() {
                self.values.copy_within(position * self.taps..position * self.taps + taps, position * taps);
            }
            self.values.truncate(self.spans.len() * taps);
            self.taps = taps;
        }
    }

    /// Fills [`Self::pairs`], with positions up to a multiple of [`GROUP`] that repeat the last.
    pub(super) fn pair_up(&mut self) {
        let pair = |low: i32, high: i32| low & 0xFFFF | high << 16;
        let mask = (1 << LOW_BITS) - 1;
        self.pairs.clear();
        self.pairs.extend(self.values.chunks_exact(GROUP).map(|taps| {
            let (high, low) = (|tap: usize| taps[tap] >> LOW_BITS, |tap: usize| taps[tap] & mask);
            [pair(high(0), high(1)), pair(high(2), high(3)), pair(low(0), low(1)), pair(low(2), low(3))]
        }));
        let groups = self.taps / GROUP;
        while !self.spans.len().is_multiple_of(GROUP) {
            let last = self.pairs.len() - groups;
            self.pairs.extend_from_within(last..);
            self.spans.extend_from_within(self.spans.len() - 1..);
        }
    }
}
