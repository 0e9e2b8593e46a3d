//! What a decoded image looks like, in a few figures: to find copies and blank images in a data set, and to choose its
//! normalisation and crops.
//!
//! `statistics` is the image's colours, `perceptual` a hash that copies of an image share, `detail` where in the image its
//! detail is.

mod detail;
mod perceptual;
mod statistics;

pub use detail::{DetailMap, SPARSE};
pub use perceptual::{HashIndex, PerceptualHash};
pub use statistics::ImageStatistics;
