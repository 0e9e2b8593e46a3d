//! Pillow's antialiased resize of a part of an image.
//!
//! Two passes with a rounding to bytes between them, as in Pillow. The horizontal pass turns interleaved pixels into
//! planes on the way, if asked to; the vertical pass is the same for both layouts.

mod filter;
mod horizontal;
mod vertical;
mod weights;

use crate::{Crop, RgbImage};
pub use filter::Filter;
pub use horizontal::Layout;
use weights::{Stretch, Weights};

/// A rectangle of an image that need not begin or end at a whole pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge in pixels.
    pub left: f64,
    /// Top edge in pixels.
    pub top: f64,
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
}

impl From<Crop> for Area {
    fn from(crop: Crop) -> Self {
        let Crop { left, top, width, height } = crop;
        Self { left: left as f64, top: top as f64, width: width as f64, height: height as f64 }
    }
}

/// A resizer with its buffers.
#[derive(Debug, Default)]
pub struct Resizer {
    filter: Filter,
    horizontal: Weights,
    vertical: Weights,
    between: Vec<u8>,
}

impl Resizer {
    /// A resizer with another filter than the bilinear one.
    #[must_use]
    pub fn with(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Cuts `area` out of `image` and resizes it to `size` (width, height): what PIL's `crop` and then `resize`
    /// give. Pixels outside the area play no part.
    ///
    /// `area` must be within the image and not be empty; `output` takes `width * height * 3` bytes.
    pub fn resize(
        &mut self,
        image: &RgbImage,
        area: impl Into<Area>,
        size: (usize, usize),
        layout: Layout,
        output: &mut [u8],
    ) {
        let window = Crop { left: 0, top: 0, width: size.0, height: size.1 };
        self.resize_window(image, area, size, window, layout, output);
    }

    /// As [`Self::resize`], but makes only the `window` of the result.
    pub fn resize_window(
        &mut self,
        image: &RgbImage,
        area: impl Into<Area>,
        size: (usize, usize),
        window: Crop,
        layout: Layout,
        output: &mut [u8],
    ) {
        let area = area.into();
        let Self { filter, horizontal, vertical, between } = self;
        let (across, down) =
            (Stretch { start: area.left, length: area.width }, Stretch { start: area.top, length: area.height });
        horizontal.fill(*filter, across, size.0, window.left, window.width);
        vertical.fill(*filter, down, size.1, window.top, window.height);
        horizontal.pair_up();
        // Only the part of the area that counts for the window.
        let (left, right) = (horizontal.reach.0 + area.left as usize, horizontal.reach.1 + area.left as usize);
        let (top, bottom) = (vertical.reach.0 + area.top as usize, vertical.reach.1 + area.top as usize);
        let stride = image.width * 3;
        let source = &image.pixels[top * stride + left * 3..];
        let (from, to) = ((area.width, area.height), (size.0 as f64, size.1 as f64));
        if vertical_first(from, to) {
            let row = (right - left) * 3;
            between.resize(window.height * row, 0);
            vertical::pass(source, stride, row, vertical, between);
            let rows = horizontal::Rows { bytes: between, stride: row, count: window.height };
            horizontal::pass(rows, horizontal, window.width, layout, output);
        } else {
            let count = bottom - top;
            between.resize(count * window.width * 3, 0);
            horizontal::pass(
                horizontal::Rows { bytes: source, stride, count },
                horizontal,
                window.width,
                layout,
                between,
            );
            match layout {
                Layout::Interleaved => {
                    vertical::pass(between, window.width * 3, window.width * 3, vertical, output);
                }
                Layout::Planes => {
                    let planes = between.chunks_exact(count * window.width);
                    for (from, to) in planes.zip(output.chunks_exact_mut(window.height * window.width)) {
                        vertical::pass(from, window.width, window.width, vertical, to);
                    }
                }
            }
        }
    }
}

/// Whether the vertical pass comes first, as from Pillow 13.0 on it does when the height shrinks by over twice as many
/// pixels as the width. (Before, the horizontal always came first; that moves some pixels by one level.)
fn vertical_first(from: (f64, f64), to: (f64, f64)) -> bool {
    (from.1 - to.1).max(0.0) > 2.0 * (from.0 - to.0).max(0.0)
}
