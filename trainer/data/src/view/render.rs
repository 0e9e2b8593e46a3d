//! Making a view from an image and what was drawn for it.

use super::params::{EvalView, ViewParams};
use crate::image::RGB;
use crate::ops::{self, Area, Blur, JitterOp, Layout, Normalize, Resizer};
use crate::times::{LoadStage, LoadTimes};
use crate::{Crop, Part, RgbImage};

/// Makes views; one for each thread, since it keeps its buffers.
#[derive(Debug, Default)]
pub struct Renderer {
    resizer: Resizer,
    blur: Blur,
    planes: Vec<u8>,
    pub(crate) times: LoadTimes,
}

impl Renderer {
    /// One view of an RGB image with `params`, `size` × `size`, into `planes` (`[3, size, size]`).
    pub fn view(
        &mut self,
        image: &RgbImage,
        params: &ViewParams,
        size: usize,
        normalize: &Normalize,
        planes: &mut [f32],
    ) {
        self.view_of([image], params.crop.into(), params, size, normalize, planes);
    }

    /// One view of a [`Part`](crate::Part), as [`Self::view`], into `planes` (`[C, size, size]` with the C channels of
    /// `normalize`).
    pub fn view_of_part(
        &mut self,
        part: &Part,
        params: &ViewParams,
        size: usize,
        normalize: &Normalize,
        planes: &mut [f32],
    ) {
        self.view_of(part.layers(), part.area(params.crop), params, size, normalize, planes);
    }

    /// As [`Self::view`] of `area` instead of the crop, of `layers` with three channels each.
    fn view_of<'a>(
        &mut self,
        layers: impl IntoIterator<Item = &'a RgbImage>,
        area: Area,
        params: &ViewParams,
        size: usize,
        normalize: &Normalize,
        planes: &mut [f32],
    ) {
        let Self { resizer, blur, planes: bytes, times } = self;
        let (plane, channels) = (size * size, normalize.channels());
        bytes.resize(plane * channels.next_multiple_of(RGB), 0);
        times.measure(LoadStage::Resize, || {
            for (image, bytes) in layers.into_iter().zip(bytes.chunks_exact_mut(plane * RGB)) {
                resizer.resize(image, area, (size, size), Layout::Planes, bytes);
            }
        });
        let bytes = &mut bytes[..plane * channels];
        let bytes = if channels == RGB {
            color(bytes, params, times);
            // The three planes of a gray view are equal, so one is computed.
            if params.grayscale { &mut bytes[..plane] } else { bytes }
        } else {
            let ops = params.jitter.as_ref().map_or(&[][..], |ops| &ops[..]);
            times.measure(LoadStage::Jitter, || ops::jitter_channels(bytes, ops));
            bytes
        };
        if let Some(sigma) = params.blur {
            times.measure(LoadStage::Blur, || blur.apply(bytes, size, size, sigma));
        }
        if let Some(threshold) = params.solarize {
            times.measure(LoadStage::Jitter, || ops::solarize(bytes, threshold));
        }
        times.measure(LoadStage::Normalize, || {
            turn(bytes, size, params);
            normalize.apply(bytes, size, params.flip, planes);
        });
    }

    /// Only the resized crop of a view, into `pixels` (`[size, size, 3]`).
    pub(crate) fn crop_of(&mut self, image: &RgbImage, area: Area, size: usize, pixels: &mut [u8]) {
        let Self { resizer, times, .. } = self;
        times.measure(LoadStage::Resize, || resizer.resize(image, area, (size, size), Layout::Interleaved, pixels));
    }

    /// The view of an RGB image for evaluation, into `planes` (`[3, crop, crop]`).
    pub fn eval(&mut self, image: &RgbImage, view: &EvalView, normalize: &Normalize, planes: &mut [f32]) {
        normalize.apply(self.eval_pixels(image, view), view.crop as usize, false, planes);
    }

    /// As [`Self::eval`] of a whole image in a [`Part`](crate::Part), into `planes` (`[C, crop, crop]`).
    pub fn eval_of_part(&mut self, part: &Part, view: &EvalView, normalize: &Normalize, planes: &mut [f32]) {
        normalize.apply(self.eval_pixels_of_part(part, view), view.crop as usize, false, planes);
    }

    /// The bytes of an RGB image's evaluation view (`[3, crop, crop]`) before the normalisation.
    pub fn eval_pixels(&mut self, image: &RgbImage, view: &EvalView) -> &[u8] {
        self.eval_pixels_of([image], view, RGB)
    }

    /// As [`Self::eval_pixels`] of a whole image in a [`Part`](crate::Part), `[C, crop, crop]` with the view's channels.
    pub fn eval_pixels_of_part(&mut self, part: &Part, view: &EvalView) -> &[u8] {
        self.eval_pixels_of(part.layers(), view, view.channels())
    }

    fn eval_pixels_of<'a>(
        &mut self,
        layers: impl IntoIterator<Item = &'a RgbImage>,
        view: &EvalView,
        channels: usize,
    ) -> &[u8] {
        let size = view.crop as usize;
        let plane = size * size;
        self.planes.resize(plane * channels.next_multiple_of(RGB), 0);
        for (image, bytes) in layers.into_iter().zip(self.planes.chunks_exact_mut(plane * RGB)) {
            let (width, height) = short_side(image.width, image.height, view.resize as usize);
            let whole = Crop { left: 0, top: 0, width: image.width, height: image.height };
            // torchvision rounds the offsets, halves to even.
            let left = ((width - size) as f64 / 2.0).round_ties_even() as usize;
            let top = ((height - size) as f64 / 2.0).round_ties_even() as usize;
            let window = Crop { left, top, width: size, height: size };
            self.resizer.resize_window(image, whole, (width, height), window, Layout::Planes, bytes);
        }
        &self.planes[..plane * channels]
    }
}

/// Jitter and grayscale, in as few passes as there can be; measured, with the hue in one of its own.
fn color(planes: &mut [u8], params: &ViewParams, times: &mut LoadTimes) {
    let ops = params.jitter.as_ref().map_or(&[][..], |ops| &ops[..]);
    let hue = ops.iter().position(|op| matches!(op, JitterOp::Hue(_))).filter(|_| times.on());
    let rest = hue.map_or(0, |hue| {
        times.measure(LoadStage::Jitter, || ops::jitter(planes, &ops[..hue], false));
        times.measure(LoadStage::Hue, || ops::jitter(planes, &ops[hue..=hue], false));
        hue + 1
    });
    times.measure(LoadStage::Jitter, || ops::jitter(planes, &ops[rest..], params.grayscale));
}

/// The vertical flip and the turn, before the normalisation does the horizontal flip.
fn turn(planes: &mut [u8], size: usize, params: &ViewParams) {
    if params.vertical_flip {
        ops::vertical_flip(planes, size);
    }
    // The turn comes after the horizontal flip; before it, it goes the other way round.
    let turns = if params.flip { (4 - params.quarter_turns % 4) % 4 } else { params.quarter_turns };
    ops::quarter_turns(planes, size, turns);
}

/// torchvision's `Resize(side)`: the shorter side becomes `side`, the longer keeps the shape, cut to whole pixels.
fn short_side(width: usize, height: usize, side: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| (side as f64 * long as f64 / short as f64) as usize;
    if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) }
}
