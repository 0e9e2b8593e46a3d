//! Bytes to normalised values: torchvision's `ToTensor` and `Normalize`, with the horizontal flip on the way.

use pulp::{Arch, Simd, WithSimd};

/// Mean and standard deviation of each channel, on values from 0 to 1.
#[derive(Debug, Clone)]
pub struct Normalize {
    channels: Vec<Channel>,
}

/// One channel's figures.
#[derive(Debug, Clone, Copy)]
struct Channel {
    mean: f32,
    std: f32,
    /// 1 / `std`, where multiplying by it and correcting the result gives the quotient's very bits for every byte.
    inverse: Option<f32>,
}

impl Channel {
    fn new(mean: f32, std: f32) -> Self {
        let inverse = 1.0 / std;
        let same = (0..=255).all(|value| multiplied(value, mean, std, inverse) == divided(value, mean, std));
        Self { mean, std, inverse: same.then_some(inverse) }
    }
}

#[inline(always)]
fn divided(value: u8, mean: f32, std: f32) -> f32 {
    (f32::from(value) / 255.0 - mean) / std
}

/// As [`divided`], by Newton's correction of a product, which takes a fraction of a division's time.
#[inline(always)]
fn multiplied(value: u8, mean: f32, std: f32, inverse: f32) -> f32 {
    let quotient = |x: f32, divisor: f32, inverse: f32| {
        let near = x * inverse;
        (-divisor).mul_add(near, x).mul_add(inverse, near)
    };
    quotient(quotient(f32::from(value), 255.0, 1.0 / 255.0) - mean, std, inverse)
}

impl Normalize {
    /// From the recipe's figures, of as many channels as both have.
    #[must_use]
    pub fn new(mean: impl AsRef<[f64]>, std: impl AsRef<[f64]>) -> Self {
        let figures = mean.as_ref().iter().zip(std.as_ref());
        Self { channels: figures.map(|(mean, std)| Channel::new(*mean as f32, *std as f32)).collect() }
    }

    /// C, the number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Writes `pixels` (`[C, height, width]`, or `[1, height, width]` for equal channels) as normalised `planes`
    /// (`[C, height, width]`), mirrored when `flip`.
    pub fn apply(&self, pixels: &[u8], width: usize, flip: bool, planes: &mut [f32]) {
        let plane = planes.len() / self.channels.len().max(1);
        if plane == 0 || width == 0 {
            return;
        }
        let sources = pixels.chunks_exact(plane).cycle();
        for ((channel, source), planes) in self.channels.iter().zip(sources).zip(planes.chunks_exact_mut(plane)) {
            Arch::new().dispatch(Plane { channel: *channel, source, width, flip, planes });
        }
    }
}

struct Plane<'a> {
    channel: Channel,
    source: &'a [u8],
    width: usize,
    flip: bool,
    planes: &'a mut [f32],
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Channel { mean, std, inverse } = self.channel;
        match inverse.filter(|_| !S::IS_SCALAR) {
            Some(inverse) => self.rows(
                #[inline(always)]
                |value| multiplied(value, mean, std, inverse),
            ),
            None => self.rows(
                #[inline(always)]
                |value| divided(value, mean, std),
            ),
        }
    }
}

impl Plane<'_> {
    #[inline(always)]
    fn rows(self, convert: impl Fn(u8) -> f32) {
        if !self.flip {
            self.planes.iter_mut().zip(self.source).for_each(|(out, value)| *out = convert(*value));
            return;
        }
        for (from, to) in self.source.chunks_exact(self.width).zip(self.planes.chunks_exact_mut(self.width)) {
            to.iter_mut().zip(from.iter().rev()).for_each(|(out, value)| *out = convert(*value));
        }
    }
}
