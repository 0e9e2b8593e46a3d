//! Pillow's `GaussianBlur`: three box blurs along each axis, with a fractional box length.

/// A blur with its buffers.
#[derive(Debug, Default)]
pub struct Blur {
    other: Vec<u8>,
}

/// Number of box passes along each axis.
const PASSES: usize = 3;

/// A box of `2 * radius + 1` whole pixels and a part of one more at either end; weights have 24 fractional bits.
#[derive(Clone, Copy)]
struct Box {
    radius: usize,
    whole: u32,
    end: u32,
}

impl Box {
    /// The box whose three-fold repetition has the variance of a Gaussian of `sigma` (Gwosdek et al., "Theoretical
    /// foundations of Gaussian convolution by extended box filtering", SSVM 2011); in single precision, as Pillow.
    fn of_sigma(sigma: f32) -> Self {
        let variance = sigma * sigma / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let numerator = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
        let fraction = numerator / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let radius = whole + fraction;
        let weight = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let radius = radius as usize;
        Self { radius, whole: weight, end: ((1 << 24) - (radius as u32 * 2 + 1) * weight) / 2 }
    }
}

impl Blur {
    /// Blurs a `[height, width, 3]` image in place; beyond its edges the outermost pixels repeat.
    pub fn apply(&mut self, pixels: &mut [u8], width: usize, height: usize, sigma: f32) {
        if sigma <= 0.0 || pixels.is_empty() {
            return;
        }
        let kernel = Box::of_sigma(sigma);
        self.other.resize(pixels.len(), 0);
        for _ in 0..PASSES {
            horizontal(pixels, &mut self.other, width, kernel);
            pixels.copy_from_slice(&self.other);
        }
        for _ in 0..PASSES {
            vertical(pixels, &mut self.other, width, height, kernel);
            pixels.copy_from_slice(&self.other);
        }
    }
}

fn horizontal(from: &[u8], to: &mut [u8], width: usize, kernel: Box) {
    let radius = kernel.radius as isize;
    let last = width as isize - 1;
    for (from, to) in from.chunks_exact(width * 3).zip(to.chunks_exact_mut(width * 3)) {
        let at = |x: isize, c: usize| u32::from(from[x.clamp(0, last) as usize * 3 + c]);
        for x in 0..=last {
            for c in 0..3 {
                let sum: u32 = (x - radius..=x + radius).map(|x| at(x, c)).sum();
                let ends = at(x - radius - 1, c) + at(x + radius + 1, c);
                to[x as usize * 3 + c] = weighed(sum, ends, kernel);
            }
        }
    }
}

fn vertical(from: &[u8], to: &mut [u8], width: usize, height: usize, kernel: Box) {
    let radius = kernel.radius as isize;
    let last = height as isize - 1;
    let stride = width * 3;
    let at = |y: isize, x: usize| u32::from(from[y.clamp(0, last) as usize * stride + x]);
    for (y, to) in to.chunks_exact_mut(stride).enumerate() {
        let y = y as isize;
        for (x, to) in to.iter_mut().enumerate() {
            let sum: u32 = (y - radius..=y + radius).map(|y| at(y, x)).sum();
            let ends = at(y - radius - 1, x) + at(y + radius + 1, x);
            *to = weighed(sum, ends, kernel);
        }
    }
}

#[inline(always)]
fn weighed(sum: u32, ends: u32, kernel: Box) -> u8 {
    ((sum * kernel.whole + ends * kernel.end + (1 << 23)) >> 24) as u8
}
