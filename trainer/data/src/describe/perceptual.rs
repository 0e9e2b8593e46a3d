//! A hash that copies of an image share when they were re-encoded or resized.
//!
//! The hash is dHash (N. Krawetz, "Kind of Like That", 2013): the image is resized to 9 × 8 pixels, and each of the 64
//! bits says whether brightness rises from one pixel to its right neighbour. Two images are near-duplicates if at most
//! [`MAX_DISTANCE`] bits differ and their 8 × 8 thumbnails differ by at most [`MAX_DIFFERENCE`] levels on average. The
//! second condition separates images of the same composition, which the hash alone confuses.

use std::collections::HashMap;

use crate::ops::{Layout, Resizer};
use crate::{Crop, RgbImage};

/// Bits that may differ between copies.
const MAX_DISTANCE: u32 = 4;
/// Mean difference of the thumbnails' values, of 255, up to which images count as copies.
const MAX_DIFFERENCE: u32 = 6;
/// Differences of brightness up to this count as none: JPEG's noise on an even background would set bits at random.
const NOISE: i32 = 2;
const SIDE: usize = 8;
const VALUES: usize = SIDE * SIDE * 3;

/// The perceptual hash of an image, and a thumbnail to confirm a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerceptualHash {
    /// dHash, the top row in the lowest bits.
    pub bits: u64,
    /// RGB, `[8, 8, 3]`.
    thumbnail: [u8; VALUES],
}

impl PerceptualHash {
    /// The hash of an image with at least one pixel.
    #[must_use]
    pub fn of(image: &RgbImage, resizer: &mut Resizer) -> Self {
        let whole = Crop { left: 0, top: 0, width: image.width, height: image.height };
        let mut wide = [0; (SIDE + 1) * SIDE * 3];
        resizer.resize(image, whole, (SIDE + 1, SIDE), Layout::Interleaved, &mut wide);
        let mut thumbnail = [0; VALUES];
        resizer.resize(image, whole, (SIDE, SIDE), Layout::Interleaved, &mut thumbnail);
        let mut bits = 0;
        for (y, row) in wide.chunks_exact((SIDE + 1) * 3).enumerate() {
            let luma: Vec<i32> = row.chunks_exact(3).map(super::detail::luma).collect();
            for (x, pair) in luma.windows(2).enumerate() {
                bits |= u64::from(pair[1] - pair[0] > NOISE) << (y * SIDE + x);
            }
        }
        Self { bits, thumbnail }
    }

    /// Whether two images are near-duplicates.
    #[must_use]
    pub fn is_near(&self, other: &Self) -> bool {
        let difference =
            || self.thumbnail.iter().zip(&other.thumbnail).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        (self.bits ^ other.bits).count_ones() <= MAX_DISTANCE && difference() <= MAX_DIFFERENCE * VALUES as u32
    }
}

/// Hashes, indexed so that near-duplicates are found without comparing all pairs.
///
/// Multi-index hashing (Norouzi, Punjani, Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012): the
/// 64 bits are cut into five bands. Hashes that differ in at most four bits agree in at least one band, so only hashes
/// with an equal band are compared.
#[derive(Debug)]
pub struct HashIndex<'a> {
    hashes: &'a [PerceptualHash],
    /// For each band, the positions of the hashes by the band's value, ascending.
    bands: Vec<HashMap<u64, Vec<u32>>>,
}

const BANDS: u32 = MAX_DISTANCE + 1;

/// The value of one band of a hash: 13 bits, and 12 in the last.
fn band(bits: u64, number: u32) -> u64 {
    let width = u64::BITS.div_ceil(BANDS);
    (bits >> (number * width)) & ((1 << width) - 1)
}

impl<'a> HashIndex<'a> {
    /// An index of up to 2³² hashes.
    #[must_use]
    pub fn new(hashes: &'a [PerceptualHash]) -> Self {
        let mut bands = vec![HashMap::<u64, Vec<u32>>::new(); BANDS as usize];
        for (number, positions) in (0..).zip(&mut bands) {
            for (at, hash) in (0..).zip(hashes) {
                positions.entry(band(hash.bits, number)).or_default().push(at);
            }
        }
        Self { hashes, bands }
    }

    /// Position of the first of the indexed hashes before `end` that is near `hash`.
    #[must_use]
    pub fn first_near(&self, hash: &PerceptualHash, end: usize) -> Option<usize> {
        let in_band = |(number, positions): (u32, &HashMap<u64, Vec<u32>>)| {
            let candidates = positions.get(&band(hash.bits, number))?.iter().map(|at| *at as usize);
            candidates.take_while(|at| *at < end).find(|at| self.hashes[*at].is_near(hash))
        };
        (0..).zip(&self.bands).filter_map(in_band).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    fn random(rng: &mut CounterRng, like: Option<(u64, u32)>) -> PerceptualHash {
        let mut bits = like.map_or_else(|| rng.next_u64(), |(bits, _)| bits);
        let flips = like.map_or(0, |(_, flips)| flips);
        let mut flipped = 0u64;
        while flipped.count_ones() < flips {
            flipped |= 1 << rng.below(64);
        }
        bits ^= flipped;
        PerceptualHash { bits, thumbnail: [100; VALUES] }
    }

    #[test]
    fn index_finds_what_a_comparison_of_all_pairs_finds() {
        let mut rng = CounterRng::named(3, "hashes");
        let mut hashes: Vec<PerceptualHash> = (0..300).map(|_| random(&mut rng, None)).collect();
        for i in 0..300 {
            let like = (hashes[i].bits, 1 + i as u32 % 7);
            hashes.push(random(&mut rng, Some(like)));
        }
        let index = HashIndex::new(&hashes);
        let mut found = 0;
        for (at, hash) in hashes.iter().enumerate() {
            let expected = hashes[..at].iter().position(|other| other.is_near(hash));
            assert_eq!(index.first_near(hash, at), expected, "{at}");
            found += usize::from(expected.is_some());
        }
        // Those with 1 to 4 of 1 to 7 flipped bits.
        assert_eq!(found, (0..300).filter(|i| i % 7 < 4).count());
    }

    #[test]
    fn same_hash_with_other_colours_is_no_match() {
        let a = PerceptualHash { bits: 7, thumbnail: [100; VALUES] };
        assert!(a.is_near(&PerceptualHash { bits: 7, thumbnail: [106; VALUES] }));
        assert!(!a.is_near(&PerceptualHash { bits: 7, thumbnail: [107; VALUES] }));
        assert!(!a.is_near(&PerceptualHash { bits: 7 ^ 0b1_1111_0000, thumbnail: [100; VALUES] }));
    }

    #[test]
    fn bits_say_where_brightness_rises() {
        let image = |pixel: fn(usize) -> u8| {
            let pixels = (0..36 * 16).flat_map(|i| [pixel(i % 36); 3]).collect();
            PerceptualHash::of(&RgbImage { width: 36, height: 16, pixels }, &mut Resizer::default()).bits
        };
        assert_eq!(image(|x| 7 * x as u8), u64::MAX);
        assert_eq!(image(|x| 255 - 7 * x as u8), 0);
        assert_eq!(image(|x| 200 + x as u8 % 2), 0, "noise");
        // A sharp edge blurs into the two pixels beside it: three rises in each row.
        assert_eq!(image(|x| if x < 16 { 0 } else { 255 }).count_ones(), 8 * 3);
    }
}
