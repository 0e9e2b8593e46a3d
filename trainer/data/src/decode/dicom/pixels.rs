//! How the pixels of a frame are stored, and their values.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::elements::Dataset;
use super::unsupported::unsupported;
use crate::decode::refusal::Refusal;
use crate::decode::samples::{Sample, Values, check_samples};

/// The layout of a frame, from the elements of its image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    /// Bits that a sample takes: 8, 16 or 32.
    allocated: usize,
    /// Bits of them that hold the value, up to the high bit.
    stored: usize,
    high_bit: usize,
    signed: bool,
    /// Whether each channel has a plane of its own.
    planar: bool,
}

impl Layout {
    pub(super) fn of(dataset: &Dataset<'_>) -> Result<Self, Refusal> {
        let need = |tag: Tag, name: &str| {
            dataset.number(tag).ok_or_else(|| Refusal::Broken(format!("DICOM: it has no {name}")))
        };
        let allocated = need(tags::BITS_ALLOCATED, "BitsAllocated")?;
        let stored = dataset.number(tags::BITS_STORED).unwrap_or(allocated);
        let high_bit = dataset.number(tags::HIGH_BIT).unwrap_or(stored.saturating_sub(1));
        if !matches!(allocated, 8 | 16 | 32) {
            return Err(unsupported(&format!("samples of {allocated} bits")));
        }
        if stored == 0 || stored > allocated || high_bit >= allocated || high_bit + 1 < stored {
            return Err(Refusal::Broken(format!(
                "DICOM: {stored} bits stored up to bit {high_bit} do not fit {allocated} bits"
            )));
        }
        let layout = Self {
            width: need(tags::COLUMNS, "Columns")?,
            height: need(tags::ROWS, "Rows")?,
            channels: dataset.number(tags::SAMPLES_PER_PIXEL).unwrap_or(1),
            allocated,
            stored,
            high_bit,
            signed: dataset.number(tags::PIXEL_REPRESENTATION) == Some(1),
            // A run-length encoded frame is unpacked to pixels.
            planar: dataset.number(tags::PLANAR_CONFIGURATION) == Some(1) && !dataset.is_encapsulated(),
        };
        // As doubles, if they are rescaled.
        check_samples(layout.width, layout.height, layout.channels, if allocated == 8 { 1 } else { 8 })?;
        Ok(layout)
    }

    /// Bytes of a sample.
    pub(super) fn bytes(&self) -> usize {
        self.allocated / 8
    }

    /// The values of an uncompressed frame, samples of a pixel together, and the least and the greatest that the stored
    /// bits can hold.
    pub(super) fn values(&self, frame: &[u8], big_endian: bool) -> Result<(Values, [f64; 2]), Refusal> {
        let expected = self.width * self.height * self.channels * self.bytes();
        let frame = frame.get(..expected).ok_or_else(|| {
            Refusal::Broken(format!("DICOM: its pixels have {} bytes instead of {expected}", frame.len()))
        })?;
        let span = 2f64.powi(self.stored as i32);
        let limits = if self.signed { [-span / 2.0, span / 2.0 - 1.0] } else { [0.0, span - 1.0] };
        let word = |bytes: &[u8]| {
            let digit = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
            match big_endian {
                true => bytes.iter().fold(0, digit),
                false => bytes.iter().rev().fold(0, digit),
            }
        };
        // The stored bits at the top of a 32-bit word, then moved down with or without their sign.
        let top = |bytes: &[u8]| word(bytes) << (31 - self.high_bit);
        let down = 32 - self.stored;
        let samples = frame.chunks_exact(self.bytes());
        let values = match (self.allocated, self.signed) {
            (8, false) if self.stored == 8 => Values::U8(self.together(frame.to_vec())),
            (32, false) => Values::U32(self.together(samples.map(|bytes| top(bytes) >> down).collect())),
            (32, true) => Values::I32(self.together(samples.map(|bytes| top(bytes) as i32 >> down).collect())),
            (_, false) => Values::U16(self.together(samples.map(|bytes| (top(bytes) >> down) as u16).collect())),
            (_, true) => Values::I16(self.together(samples.map(|bytes| (top(bytes) as i32 >> down) as i16).collect())),
        };
        Ok((values, limits))
    }

    /// Puts the samples of each pixel together.
    fn together<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if !self.planar || self.channels == 1 {
            return values;
        }
        let pixels = self.width * self.height;
        (0..pixels).flat_map(|pixel| values[pixel..].iter().step_by(pixels).copied()).collect()
    }
}

impl Values {
    /// The values times `slope`, plus `intercept`.
    pub(super) fn rescaled(&self, slope: f64, intercept: f64) -> Self {
        fn apply<T: Sample>(values: &[T], slope: f64, intercept: f64) -> Values {
            Values::F64(values.iter().map(|value| value.double() * slope + intercept).collect())
        }
        match self {
            Self::U8(values) => apply(values, slope, intercept),
            Self::U16(values) => apply(values, slope, intercept),
            Self::I16(values) => apply(values, slope, intercept),
            Self::U32(values) => apply(values, slope, intercept),
            Self::I32(values) => apply(values, slope, intercept),
            Self::F32(values) => apply(values, slope, intercept),
            Self::F64(values) => apply(values, slope, intercept),
        }
    }
}
