//! Solarisation: bright values inverted.

use pulp::{Simd, WithSimd};

/// Inverts the values from `threshold` on (`ImageOps.solarize`).
pub fn solarize(planes: &mut [u8], threshold: u8) {
    pulp::Arch::new().dispatch(Invert { planes, threshold });
}

struct Invert<'a> {
    planes: &'a mut [u8],
    threshold: u8,
}

impl WithSimd for Invert<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let threshold = self.threshold;
        self.planes.iter_mut().for_each(|value| *value = if *value < threshold { *value } else { !*value });
    }
}
