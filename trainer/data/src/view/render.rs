//! Making a view from an image and what was drawn for it.

use super::{Crop, EvalView, JitterOp, ViewParams};
use crate::RgbImage;
use crate::ops::{self, Blur, Normalize, Resizer};

/// Makes views; one for each thread, since it keeps its buffers.
#[derive(Debug, Default)]
pub struct Renderer {
    resizer: Resizer,
    blur: Blur,
    pixels: Vec<u8>,
}

impl Renderer {
    /// One view of `image` with `params`, `size` × `size`, into `planes` (`[3, size, size]`).
    pub fn view(
        &mut self,
        image: &RgbImage,
        params: &ViewParams,
        size: usize,
        normalize: &Normalize,
        planes: &mut [f32],
    ) {
        self.pixels(image, params, size);
        normalize.apply(&self.pixels, size, params.flip, planes);
    }

    /// The view's bytes (`[size, size, 3]`) just before the flip and the normalisation.
    pub fn pixels(&mut self, image: &RgbImage, params: &ViewParams, size: usize) -> &[u8] {
        self.pixels.resize(size * size * 3, 0);
        let pixels = &mut self.pixels[..];
        self.resizer.resize(image, params.crop, size, size, pixels);
        for op in params.jitter.iter().flatten() {
            match *op {
                JitterOp::Brightness(factor) => ops::brightness(pixels, factor),
                JitterOp::Contrast(factor) => ops::contrast(pixels, factor),
                JitterOp::Saturation(factor) => ops::saturation(pixels, factor),
                JitterOp::Hue(factor) => ops::hue(pixels, factor),
            }
        }
        if params.grayscale {
            ops::grayscale(pixels);
        }
        if let Some(sigma) = params.blur {
            self.blur.apply(pixels, size, size, sigma);
        }
        &self.pixels
    }

    /// The view for evaluation, into `planes` (`[3, crop, crop]`).
    pub fn eval(&mut self, image: &RgbImage, view: &EvalView, normalize: &Normalize, planes: &mut [f32]) {
        let size = view.crop as usize;
        self.eval_pixels(image, view);
        normalize.apply(&self.pixels, size, false, planes);
    }

    /// The evaluation view's bytes (`[crop, crop, 3]`) before the normalisation.
    pub fn eval_pixels(&mut self, image: &RgbImage, view: &EvalView) -> &[u8] {
        let (width, height) = short_side(image.width, image.height, view.resize as usize);
        let size = view.crop as usize;
        let whole = Crop { left: 0, top: 0, width: image.width, height: image.height };
        self.pixels.resize(size * size * 3, 0);
        // torchvision rounds the offsets, halves to even.
        let left = ((width - size) as f64 / 2.0).round_ties_even() as usize;
        let top = ((height - size) as f64 / 2.0).round_ties_even() as usize;
        let window = Crop { left, top, width: size, height: size };
        self.resizer.resize_window(image, whole, (width, height), window, &mut self.pixels);
        &self.pixels
    }
}

/// torchvision's `Resize(side)`: the shorter side becomes `side`, the longer keeps the shape, cut to whole pixels.
fn short_side(width: usize, height: usize, side: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| (side as f64 * long as f64 / short as f64) as usize;
    if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) }
}
