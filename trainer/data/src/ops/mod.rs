//! The operations of the augmentation, each on 8-bit pixels, with Pillow's arithmetic to the last bit.
//!
//! The resize reads interleaved pixels (`[height, width, 3]`), as decoders give them, and writes planes
//! (`[3, height, width]`), on which all else works: there, neighbours in memory are treated alike, so that plain loops
//! become vector code. They are compiled for each instruction set and chosen at run time (`pulp`); all give the same
//! bits. The tests hold each operation to Pillow's and torchvision's results.

mod blur;
mod channels;
mod color;
mod cut;
mod hue;
mod normalize;
mod resize;
mod solarize;
mod turn;

pub use blur::{Blur, BoxKernel};
pub use channels::jitter_channels;
pub(crate) use color::luma;
pub use color::{Jitter, JitterOp, brightness, contrast, grayscale, hue, jitter, saturation};
pub use normalize::Normalize;
pub use resize::{Area, Filter, Layout, Resizer};
pub use solarize::solarize;
pub use turn::{quarter_turns, vertical_flip};
