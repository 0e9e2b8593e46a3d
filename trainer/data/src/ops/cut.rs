//! Numbers to bytes, cut off at the point, as C's cast does.
//!
//! Rust's own cast also saturates, for which today's compiler takes vectors apart. Here, a power of two is added that
//! leaves the whole number's bits at the end of the mantissa.

/// `x` as a byte, for `x` from 0 to below 256.
#[inline(always)]
pub(super) fn cut(x: f32) -> u8 {
    (x.floor() + 8_388_608.0).to_bits() as u8
}

/// As [`cut`], in double precision.
#[inline(always)]
pub(super) fn cut_double(x: f64) -> u8 {
    (x.floor() + 4_503_599_627_370_496.0).to_bits() as u8
}

/// `x` as a byte, for any `x` but NaN; 0 below 0 and 255 above 255.
#[inline(always)]
pub(super) fn cut_clipped(x: f32) -> u8 {
    // Not `clamp`, whose care for NaN costs more than the rest.
    let x = if x > 0.0 { x } else { 0.0 };
    cut(if x < 255.0 { x } else { 255.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_equals_cast() {
        for step in 0..=256 * 64 - 1 {
            let x = step as f32 / 64.0;
            for x in [x, x.next_down().max(0.0), x.next_up().min(255.99)] {
                assert_eq!((cut(x), cut_double(f64::from(x))), (x as u8, x as u8), "{x}");
            }
        }
        for x in [-1e30, -0.5, -0.0, 0.0, 254.99, 255.0, 255.5, 256.0, 1e30, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(cut_clipped(x), x as u8, "{x}");
        }
    }
}
