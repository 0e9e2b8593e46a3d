//! The samples of an image as its file has them, before they become 8 bits.

use super::refusal::{Refusal, check_size};

/// A decoded image in the type of its file.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
    /// Samples of each pixel; those beyond the colour's are alpha or further bands.
    pub(super) channels: usize,
    /// What the first samples of a pixel mean.
    pub(super) colour: Colour,
    /// The values that are black and white, where the file says so; otherwise the type decides.
    pub(super) limits: Option<(f64, f64)>,
    /// Whether the lowest value is white.
    pub(super) inverted: bool,
    /// `height * width * channels` samples, those of a pixel together.
    pub(super) values: Values,
}

/// What the first samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Colour {
    /// One sample of brightness.
    Gray,
    /// Red, green and blue.
    #[default]
    Rgb,
    /// Bands of a measurement, which are no colours.
    Bands,
}

/// Samples of one type.
#[derive(Debug)]
pub(super) enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Default for Values {
    fn default() -> Self {
        Self::U8(Vec::new())
    }
}

impl Values {
    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// The memory of 8-bit samples of an earlier image, emptied.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Self::U8(mut bytes) => {
                bytes.clear();
                bytes
            }
            _ => Vec::new(),
        }
    }
}

/// A sample's type.
pub(super) trait Sample: Copy {
    /// The value as a double; of integers of up to 32 bits exactly.
    fn double(self) -> f64;
    /// The value as Pillow makes it 8 bits: clipped, with the fraction cut off.
    fn clipped(self) -> u8;
}

macro_rules! samples {
    ($($type:ty: $clip:expr;)*) => {
        $(impl Sample for $type {
            fn double(self) -> f64 {
                f64::from(self)
            }

            fn clipped(self) -> u8 {
                let clip: fn($type) -> u8 = $clip;
                clip(self)
            }
        })*
    };
}

samples! {
    u8: |v| v;
    u16: |v| v.min(255) as u8;
    i16: |v| v.clamp(0, 255) as u8;
    // Pillow reads 32-bit integers as signed ones.
    u32: |v| (v as i32).clamp(0, 255) as u8;
    i32: |v| v.clamp(0, 255) as u8;
    // `as` clips, and makes 0 of NaN.
    f32: |v| v as u8;
    f64: |v| v as f32 as u8;
}

/// The most memory that the samples of one image may take.
pub(super) const MAX_BYTES: u64 = 2 << 30;

/// Refuses images whose samples would take too much memory, before any is taken for them.
pub(super) fn check_samples(width: usize, height: usize, channels: usize, bytes: usize) -> Result<(), Refusal> {
    check_size(width, height)?;
    let size = (width as u64 * height as u64).saturating_mul(channels as u64).saturating_mul(bytes as u64);
    if size <= MAX_BYTES {
        return Ok(());
    }
    let each = channels * bytes;
    Err(Refusal::Broken(format!(
        "{width}x{height} pixels of {each} bytes each exceed the limit of {MAX_BYTES} bytes; downscale the image"
    )))
}
