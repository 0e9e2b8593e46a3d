//! Where in an image its detail is.

use crate::ops::{Layout, Resizer};
use crate::{Crop, RgbImage};

/// Side of the reduced image on which detail is measured.
const SIDE: usize = 64;
/// Differences of brightness up to this count as none: JPEG's noise.
const NOISE: i32 = 3;

/// Density of detail below which a crop is sparse: a tenth of the image's.
pub const SPARSE: f64 = 0.1;

/// The detail of an image: squared differences of brightness between neighbours at 64 × 64 pixels, summed so that any
/// crop's share is known at once (a summed-area table; Crow, "Summed-area tables for texture mapping", 1984).
#[derive(Debug, Clone)]
pub struct DetailMap {
    /// `[64, 64]`; each entry is the sum above and to the left of that grid point.
    sums: Vec<u64>,
    width: usize,
    height: usize,
}

/// Brightness of an RGB pixel, 0 to 255 (ITU-R BT.601).
pub(super) fn luma(rgb: &[u8]) -> i32 {
    let [r, g, b] = [0, 1, 2].map(|channel| i32::from(rgb.get(channel).copied().unwrap_or_default()));
    (299 * r + 587 * g + 114 * b) / 1000
}

impl DetailMap {
    /// The detail of an image with at least one pixel.
    #[must_use]
    pub fn of(image: &RgbImage, resizer: &mut Resizer) -> Self {
        let whole = Crop { left: 0, top: 0, width: image.width, height: image.height };
        let mut pixels = vec![0; SIDE * SIDE * 3];
        resizer.resize(image, whole, (SIDE, SIDE), Layout::Interleaved, &mut pixels);
        let brightness: Vec<i32> = pixels.chunks_exact(3).map(luma).collect();
        let squared = |a: i32, b: i32| {
            let difference = (a - b).abs();
            if difference > NOISE { u64::from(difference.unsigned_abs().pow(2)) } else { 0 }
        };
        let mut sums = vec![0; SIDE * SIDE];
        for y in 1..SIDE {
            let mut row = 0;
            for x in 1..SIDE {
                let at = y * SIDE + x;
                row += squared(brightness[at], brightness[at - 1]) + squared(brightness[at], brightness[at - SIDE]);
                sums[at] = row + sums[at - SIDE];
            }
        }
        Self { sums, width: image.width, height: image.height }
    }

    /// The crop's share of the image's detail, divided by its share of the area: 1 if detail is spread evenly, 0 for an
    /// empty part. 1 for any part of an image without detail.
    #[must_use]
    pub fn density(&self, crop: Crop) -> f64 {
        let total = self.sums[SIDE * SIDE - 1];
        let grid = |at: usize, length: usize| (at * (SIDE - 1) + length / 2) / length;
        let (left, right) = (grid(crop.left, self.width), grid(crop.left + crop.width, self.width));
        let (top, bottom) = (grid(crop.top, self.height), grid(crop.top + crop.height, self.height));
        let cells = (right - left) * (bottom - top);
        if total == 0 || cells == 0 {
            return 1.0;
        }
        let at = |x: usize, y: usize| self.sums[y * SIDE + x] as f64;
        let inside = at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top);
        let area = cells as f64 / ((SIDE - 1) * (SIDE - 1)) as f64;
        inside / total as f64 / area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crop(left: usize, top: usize, side: usize) -> Crop {
        Crop { left, top, width: side, height: side }
    }

    #[test]
    fn density_is_high_where_the_object_is_and_zero_beside_it() {
        // A dark square of a quarter of the side on white, in the top left corner.
        let pixels =
            (0..128 * 128).flat_map(|i| if i % 128 < 32 && i / 128 < 32 { [20; 3] } else { [250; 3] }).collect();
        let map = DetailMap::of(&RgbImage { width: 128, height: 128, pixels }, &mut Resizer::default());
        assert_eq!(map.density(crop(64, 64, 64)), 0.0);
        assert!((map.density(crop(0, 0, 64)) - 4.0).abs() < 0.3, "{}", map.density(crop(0, 0, 64)));
        assert_eq!(map.density(crop(0, 0, 128)), 1.0);
    }

    #[test]
    fn density_of_an_even_texture_is_one_everywhere() {
        let stripes = |i: usize| if (i % 128 / 8).is_multiple_of(2) { [0; 3] } else { [200; 3] };
        let pixels = (0..128 * 96).flat_map(stripes).collect();
        let map = DetailMap::of(&RgbImage { width: 128, height: 96, pixels }, &mut Resizer::default());
        for crop in [crop(0, 0, 48), crop(70, 30, 48), crop(30, 10, 64)] {
            assert!((map.density(crop) - 1.0).abs() < 0.15, "{crop:?}: {}", map.density(crop));
        }
        let blank = RgbImage { width: 9, height: 9, pixels: vec![7; 9 * 9 * 3] };
        assert_eq!(DetailMap::of(&blank, &mut Resizer::default()).density(crop(2, 2, 3)), 1.0);
    }
}
