//! Colour: the four operations of the jitter, and grayscale, on planes (`[3, height, width]`).
//!
//! The jitter goes through memory twice at most, however many operations it has: contrast needs the mean of what came
//! before it, so what precedes it, and the sum, make one pass, and what follows another. A pass takes all its steps on
//! one strip of pixels, which stays in the nearest cache, before it goes on to the next.

use pulp::{Simd, WithSimd};

use super::cut::cut_clipped;
use super::hue::turn as turn_hue;

/// One of the four operations of the colour jitter, with its factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum JitterOp {
    /// See [`brightness`].
    Brightness(f32),
    /// See [`contrast`].
    Contrast(f32),
    /// See [`saturation`].
    Saturation(f32),
    /// See [`hue`].
    Hue(f64),
}

/// The colour jitter's operations in the order in which they apply.
pub type Jitter = [JitterOp; 4];

/// Pixels of a strip; three times as many bytes.
const STRIP: usize = 512;

/// A step that needs nothing but the pixel itself.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// From this value by the factor of the way to each value.
    Blend { base: u8, factor: f32 },
    /// The same from each pixel's luma.
    FromLuma { factor: f32 },
    /// A turn of the hue, in 255ths of the circle.
    Turn(u8),
}

/// Brightness: a blend with black. `factor` 1 changes nothing (`ImageEnhance.Brightness`).
pub fn brightness(planes: &mut [u8], factor: f32) {
    jitter(planes, &[JitterOp::Brightness(factor)], false);
}

/// Contrast: a blend with the image's mean luma (`ImageEnhance.Contrast`).
pub fn contrast(planes: &mut [u8], factor: f32) {
    jitter(planes, &[JitterOp::Contrast(factor)], false);
}

/// Saturation: a blend with each pixel's luma (`ImageEnhance.Color`).
pub fn saturation(planes: &mut [u8], factor: f32) {
    jitter(planes, &[JitterOp::Saturation(factor)], false);
}

/// Hue: turned by `factor` of the circle (−½ to ½) in Pillow's 8-bit HSV, as torchvision does on PIL images.
pub fn hue(planes: &mut [u8], factor: f64) {
    jitter(planes, &[JitterOp::Hue(factor)], false);
}

/// Grayscale with three equal channels.
pub fn grayscale(planes: &mut [u8]) {
    jitter(planes, &[], true);
    let (gray, others) = planes.split_at_mut(planes.len() / 3);
    others.chunks_exact_mut(gray.len().max(1)).for_each(|plane| plane.copy_from_slice(gray));
}

/// All of `ops` in their order, then, with `gray`, the luma into the first plane; the other two are then unspecified.
pub fn jitter(planes: &mut [u8], ops: &[JitterOp], gray: bool) {
    let count = planes.len() / 3;
    if count == 0 {
        return;
    }
    let mut steps = Steps::default();
    for op in ops {
        match *op {
            JitterOp::Brightness(factor) => steps.add(planes, Step::Blend { base: 0, factor }),
            JitterOp::Saturation(factor) => steps.add(planes, Step::FromLuma { factor }),
            // Rust's cast saturates where C's wraps, but factors are within the circle.
            JitterOp::Hue(factor) => steps.add(planes, Step::Turn((factor * 255.0) as i32 as u8)),
            JitterOp::Contrast(factor) => {
                let sum = steps.run(planes, Luma::Sum);
                let base = (sum as f64 / count as f64 + 0.5) as u8;
                steps.add(planes, Step::Blend { base, factor });
            }
        }
    }
    if gray {
        steps.run(planes, Luma::Store);
    } else if steps.len > 0 {
        steps.run(planes, Luma::Ignore);
    }
}

/// Steps put off until a pass is due.
#[derive(Debug)]
struct Steps {
    list: [Step; 4],
    len: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self { list: [Step::Turn(0); 4], len: 0 }
    }
}

impl Steps {
    fn add(&mut self, planes: &mut [u8], step: Step) {
        if self.len == self.list.len() {
            self.run(planes, Luma::Ignore);
        }
        self.list[self.len] = step;
        self.len += 1;
    }

    /// Takes all steps, and returns the sum of the luma if asked for it.
    fn run(&mut self, planes: &mut [u8], luma: Luma) -> u64 {
        let steps = &self.list[..self.len];
        self.len = 0;
        pulp::Arch::new().dispatch(Pass { planes, steps, luma })
    }
}

/// What a pass does with the luma after its last step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Luma {
    Ignore,
    Sum,
    /// Into the first plane.
    Store,
}

struct Pass<'a> {
    planes: &'a mut [u8],
    steps: &'a [Step],
    luma: Luma,
}

impl WithSimd for Pass<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u64 {
        let count = self.planes.len() / 3;
        let (red, rest) = self.planes.split_at_mut(count);
        let (green, blue) = rest.split_at_mut(count);
        let mut sum = 0;
        for ((r, g), b) in red.chunks_mut(STRIP).zip(green.chunks_mut(STRIP)).zip(blue.chunks_mut(STRIP)) {
            for step in self.steps {
                match *step {
                    Step::Blend { base, factor } => [&mut *r, g, b].into_iter().for_each(|p| blend(p, base, factor)),
                    Step::FromLuma { factor } => from_luma(r, g, b, factor),
                    Step::Turn(turn) => turn_hue::<S>(r, g, b, turn),
                }
            }
            match self.luma {
                Luma::Ignore => {}
                Luma::Sum => sum += u64::from(luma_sum(r, g, b)),
                Luma::Store => r.iter_mut().zip(g).zip(b).for_each(|((r, g), b)| *r = luma(*r, *g, *b)),
            }
        }
        sum
    }
}

/// Pillow's luma (ITU-R 601-2) in 16-bit fixed point: what `convert("L")` gives.
#[inline(always)]
pub(crate) fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[inline(always)]
fn luma_sum(r: &[u8], g: &[u8], b: &[u8]) -> u32 {
    r.iter().zip(g).zip(b).map(|((r, g), b)| u32::from(luma(*r, *g, *b))).sum()
}

/// Pillow's `Image.blend`: from `base` by `factor` of the way to `value`, clipped, fraction cut off.
#[inline(always)]
fn mix(base: f32, value: u8, factor: f32) -> u8 {
    cut_clipped(base + factor * (f32::from(value) - base))
}

#[inline(always)]
pub(super) fn blend(plane: &mut [u8], base: u8, factor: f32) {
    let base = f32::from(base);
    plane.iter_mut().for_each(|value| *value = mix(base, *value, factor));
}

#[inline(always)]
fn from_luma(r: &mut [u8], g: &mut [u8], b: &mut [u8], factor: f32) {
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let base = f32::from(luma(*r, *g, *b));
        (*r, *g, *b) = (mix(base, *r, factor), mix(base, *g, factor), mix(base, *b, factor));
    }
}
