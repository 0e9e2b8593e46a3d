//! Counter-based random numbers.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a key and a
//! counter into four random words, with no state carried from one sample to the next. Every stream here is a pure
//! function of what names it, so nothing random depends on the order in which threads, ranks or restarts arrive.
//!
//! The key is the run's seed. The counter is
//!
//! | word | content |
//! |---|---|
//! | 0 | block within the stream |
//! | 1 | low half of the sample id, or of the name's hash |
//! | 2 | bits 0–15: high bits of the sample id; bits 16–23: view; bits 24–31: domain |
//! | 3 | epoch, or high half of the name's hash |

const MULTIPLIER_0: u32 = 0xD251_1F53;
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;
const ROUNDS: usize = 10;

/// Streams of different domains never overlap.
const DOMAIN_VIEW: u32 = 1;
const DOMAIN_EPOCH: u32 = 2;
const DOMAIN_NAMED: u32 = 3;

/// The bijection itself: ten rounds over one counter.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL_0), key[1].wrapping_add(WEYL_1)];
        }
        let (low_0, high_0) = counter[0].widening(MULTIPLIER_0);
        let (low_1, high_1) = counter[2].widening(MULTIPLIER_1);
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
    }
    counter
}

trait Widening {
    fn widening(self, other: u32) -> (u32, u32);
}

impl Widening for u32 {
    fn widening(self, other: u32) -> (u32, u32) {
        let product = u64::from(self) * u64::from(other);
        (product as u32, (product >> 32) as u32)
    }
}

/// A stream of random numbers, fixed entirely by what names it.
#[derive(Debug, Clone)]
pub struct CounterRng {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl CounterRng {
    /// The stream of one name, for instance of a parameter to initialise.
    #[must_use]
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = fnv1a(name.as_bytes());
        Self::new(seed, [0, hash as u32, DOMAIN_NAMED << 24, (hash >> 32) as u32])
    }

    /// The stream of one view (0 and 1, or more where a step takes several pairs) of one sample in one epoch.
    ///
    /// Of `sample` the low 48 bits count, of `epoch` the low 32.
    #[must_use]
    pub fn view(seed: u64, epoch: u64, sample: u64, view: u8) -> Self {
        let high = (sample >> 32) as u32 & 0xFFFF;
        Self::new(seed, [0, sample as u32, DOMAIN_VIEW << 24 | u32::from(view) << 16 | high, epoch as u32])
    }

    /// The stream that shuffles one epoch; of `epoch` the low 32 bits count.
    #[must_use]
    pub fn epoch(seed: u64, epoch: u64) -> Self {
        Self::new(seed, [0, 0, DOMAIN_EPOCH << 24, epoch as u32])
    }

    fn new(seed: u64, counter: [u32; 4]) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], counter, block: [0; 4], used: 4, spare_normal: None }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            // 2^34 words a stream; wrapping would repeat a stream, never enter another.
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let word = self.block[self.used];
        self.used += 1;
        word
    }

    /// The next 64 random bits, low word first.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [`low`, `high`).
    pub fn uniform_in(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform over 0, …, `n` − 1 without bias; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // Lemire, "Fast random integer generation in an interval", 2019.
        let threshold = if n == 0 { return 0 } else { n.wrapping_neg() % n };
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// `true` with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal, by the Box–Muller transform.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        // 1 − uniform lies in (0, 1], so its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sine);
        radius * cosine
    }
}

/// FNV-1a, 64 bits: names are few, and Philox does the mixing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The known answers published with the authors' Random123 library (`kat_vectors`, philox4x32 10).
    #[test]
    fn rng_matches_known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn rng_streams_with_different_keys_differ() {
        let streams = [
            CounterRng::view(1, 2, 3, 0),
            CounterRng::view(1, 2, 3, 1),
            CounterRng::view(1, 2, 4, 0),
            CounterRng::view(1, 2, 3 + (1 << 32), 0),
            CounterRng::view(1, 3, 3, 0),
            CounterRng::view(2, 2, 3, 0),
            CounterRng::view(1 + (1 << 32), 2, 3, 0),
            CounterRng::epoch(1, 2),
            CounterRng::epoch(1, 3),
            CounterRng::epoch(2, 2),
            CounterRng::named(1, "fc.weight"),
            CounterRng::named(1, "fc.bias"),
            CounterRng::named(2, "fc.weight"),
        ];
        let first: HashSet<u64> = streams.iter().cloned().map(|mut stream| stream.next_u64()).collect();
        assert_eq!(first.len(), streams.len());
    }

    #[test]
    fn rng_stream_with_same_key_repeats() {
        let (mut one, mut two) = (CounterRng::view(7, 8, 9, 1), CounterRng::view(7, 8, 9, 1));
        for _ in 0..100 {
            assert_eq!(one.next_u32(), two.next_u32());
        }
    }

    #[test]
    fn uniform_samples_are_uniform() {
        let mut rng = CounterRng::named(0, "uniform");
        let n = 200_000;
        let values: Vec<f64> = (0..n).map(|_| rng.uniform()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.003, "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.001, "{variance}");
        assert!(values.iter().all(|x| (0.0..1.0).contains(x)));
    }

    #[test]
    fn normal_samples_are_normal() {
        let mut rng = CounterRng::named(0, "normal");
        let n = 200_000;
        let values: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let moment = |k: i32| values.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        assert!(moment(1).abs() < 0.01, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "{}", moment(2));
        assert!(moment(3).abs() < 0.04, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.12, "{}", moment(4));
    }

    #[test]
    fn below_is_in_range_and_unbiased() {
        let mut rng = CounterRng::named(0, "below");
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!(rng.below(1), 0);
        assert_eq!(rng.below(0), 0);
    }
}
