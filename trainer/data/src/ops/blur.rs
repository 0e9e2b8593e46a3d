//! Pillow's `GaussianBlur`: three box blurs along each axis, with a fractional box length.

use pulp::{Arch, Simd, WithSimd};

/// A blur with its buffers.
#[derive(Debug, Default)]
pub struct Blur {
    /// Two rows with their edges repeated on either side.
    lines: [Vec<u8>; 2],
    /// One plane.
    other: Vec<u8>,
}

/// Number of box passes along each axis.
const PASSES: usize = 3;

/// A box of `2 * radius + 1` whole pixels and a part of one more at either end; weights have 24 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxKernel {
    /// Whole pixels on either side of the middle one.
    pub radius: usize,
    /// Weight of a whole pixel.
    pub whole: u32,
    /// Weight of the pixel beyond at either end.
    pub end: u32,
}

impl BoxKernel {
    /// Fractional bits of the weights.
    pub const PRECISION: u32 = 24;

    /// The box whose three-fold repetition has the variance of a Gaussian of `sigma` (Gwosdek et al., "Theoretical
    /// foundations of Gaussian convolution by extended box filtering", SSVM 2011); in single precision, as Pillow.
    #[must_use]
    pub fn of_sigma(sigma: f32) -> Self {
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

struct Plane<'a> {
    blur: &'a mut Blur,
    plane: &'a mut [u8],
    width: usize,
    kernel: BoxKernel,
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { blur, plane, width, kernel } = self;
        // Up to σ 2 the radius is 0 or 1.
        match kernel.radius {
            0 => blur.plane::<1>(plane, width, kernel),
            1 => blur.plane::<3>(plane, width, kernel),
            _ => blur.plane::<0>(plane, width, kernel),
        }
    }
}

impl Blur {
    /// Blurs planes (`[C, height, width]`, any C) in place; beyond their edges the outermost pixels repeat.
    pub fn apply(&mut self, planes: &mut [u8], width: usize, height: usize, sigma: f32) {
        if sigma <= 0.0 || width == 0 || height == 0 {
            return;
        }
        let kernel = BoxKernel::of_sigma(sigma);
        let margin = kernel.radius + 1;
        self.lines.iter_mut().for_each(|line| line.resize(width + 2 * margin, 0));
        self.other.resize(width * height, 0);
        for plane in planes.chunks_exact_mut(width * height) {
            Arch::new().dispatch(Plane { blur: self, plane, width, kernel });
        }
    }

    /// `WHOLE` is the number of whole pixels in the box; 0: found at run time.
    #[inline(always)]
    fn plane<const WHOLE: usize>(&mut self, plane: &mut [u8], width: usize, kernel: BoxKernel) {
        let margin = kernel.radius + 1;
        let [one, two] = &mut self.lines;
        for (from, to) in plane.chunks_exact(width).zip(self.other.chunks_exact_mut(width)) {
            one[margin..margin + width].copy_from_slice(from);
            repeat_edges(one, margin);
            along::<WHOLE>(one, &mut two[margin..margin + width], kernel);
            repeat_edges(two, margin);
            along::<WHOLE>(two, &mut one[margin..margin + width], kernel);
            repeat_edges(one, margin);
            along::<WHOLE>(one, to, kernel);
        }
        across::<WHOLE>(&self.other, plane, width, kernel);
        across::<WHOLE>(plane, &mut self.other, width, kernel);
        across::<WHOLE>(&self.other, plane, width, kernel);
    }
}

#[inline(always)]
fn repeat_edges(line: &mut [u8], margin: usize) {
    let end = line.len() - margin;
    let (first, last) = (line[margin], line[end - 1]);
    line[..margin].fill(first);
    line[end..].fill(last);
}

/// One row; `line` has it with its edges repeated.
#[inline(always)]
fn along<const WHOLE: usize>(line: &[u8], to: &mut [u8], kernel: BoxKernel) {
    let width = to.len();
    box_of::<WHOLE>(|tap| &line[tap..tap + width], to, kernel);
}

/// All rows.
#[inline(always)]
fn across<const WHOLE: usize>(from: &[u8], to: &mut [u8], width: usize, kernel: BoxKernel) {
    let last = from.len() / width - 1;
    for (y, to) in to.chunks_exact_mut(width).enumerate() {
        let row = |tap: usize| {
            let y = (y + tap).saturating_sub(kernel.radius + 1).min(last);
            &from[y * width..(y + 1) * width]
        };
        box_of::<WHOLE>(row, to, kernel);
    }
}

/// The weighed sum of the inputs `at(0)`, …, `at(2 * radius + 2)`, of which the first and last are the box's ends.
#[inline(always)]
fn box_of<'a, const WHOLE: usize>(at: impl Fn(usize) -> &'a [u8], to: &mut [u8], kernel: BoxKernel) {
    let wholes = kernel.radius * 2 + 1;
    let (low, high) = (&at(0)[..to.len()], &at(wholes + 1)[..to.len()]);
    if WHOLE == 0 {
        for (x, to) in to.iter_mut().enumerate() {
            let sum = (1..=wholes).map(|tap| u32::from(at(tap)[x])).sum();
            *to = weighed(sum, u32::from(low[x]) + u32::from(high[x]), kernel);
        }
        return;
    }
    let inner: [&[u8]; WHOLE] = std::array::from_fn(|tap| &at(tap + 1)[..to.len()]);
    for (x, to) in to.iter_mut().enumerate() {
        // 16 bits hold these sums, and twice as many of them fit a register.
        let sum: u16 = inner.iter().map(|inner| u16::from(inner[x])).sum();
        let ends = u16::from(low[x]) + u16::from(high[x]);
        *to = weighed(u32::from(sum), u32::from(ends), kernel);
    }
}

#[inline(always)]
fn weighed(sum: u32, ends: u32, kernel: BoxKernel) -> u8 {
    ((sum * kernel.whole + ends * kernel.end + (1 << 23)) >> 24) as u8
}
