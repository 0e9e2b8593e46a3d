//! The operations of the augmentation, each on 8-bit RGB, with Pillow's arithmetic.
//!
//! Pixels are interleaved (`[height, width, 3]`) until `normalize` lays them out as planes. The tests hold each
//! operation to Pillow's and torchvision's results.

mod blur;
mod color;
mod normalize;
mod resize;

pub use blur::Blur;
pub use color::{brightness, contrast, grayscale, hue, saturation};
pub use normalize::Normalize;
pub use resize::Resizer;
