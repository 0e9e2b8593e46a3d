//! How the images of a data set are decoded.

use crate::ValueRange;

/// How the images of a data set are decoded: a property of the set, so that training, evaluation, reports and packing
/// all see the same pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DecodeOptions {
    /// Which values are black and white, where samples have more than 8 bits.
    pub range: ValueRange,
}
