//! Which values of an image are black and white, for images whose samples have more than 8 bits.

use crate::Error;

/// How samples of more than 8 bits become the 8 bits that the pipeline works with.
///
/// Images of at most 8 bits per sample are not affected: their values are the pipeline's own. All modes are linear
/// between a lowest and a highest value: `v` becomes `(v − low) / (high − low) · 255`, rounded to the nearest whole
/// number and clipped to 0…255; NaN becomes 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ValueRange {
    /// The range of the sample type: all values of an integer type, 0 to 1 for floating point. Of a DICOM file its
    /// first window, or else all values that its stored bits can hold.
    #[default]
    Auto,
    /// The pixels of Pillow's `convert("RGB")`: grey values of more than 8 bits are clipped to 0…255 without scaling,
    /// floating point is also cut to whole numbers, and of 16-bit colours the high byte is taken.
    Pillow,
    /// From `low` to `high`, in the units of the file.
    Fixed {
        /// The value that becomes black.
        low: f64,
        /// The value that becomes white.
        high: f64,
    },
    /// From one percentile to another of the image's own values, all colours together, interpolated linearly as
    /// `numpy.percentile` does; alpha and NaN do not count.
    Percentiles {
        /// From 0 to 100; below `high`.
        low: f64,
        /// From 0 to 100.
        high: f64,
    },
}

impl ValueRange {
    /// Refuses limits that are not finite, not in order, or no percentiles.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<(), Error> {
        let (low, high, most) = match *self {
            Self::Auto | Self::Pillow => return Ok(()),
            Self::Fixed { low, high } => (low, high, f64::MAX),
            Self::Percentiles { low, high } => (low, high, 100.0),
        };
        let least = if most == 100.0 { 0.0 } else { -most };
        if (least..=most).contains(&low) && (least..=most).contains(&high) && low < high {
            return Ok(());
        }
        let expected = match self {
            Self::Percentiles { .. } => "two percentiles from 0 to 100, the smaller first",
            _ => "two numbers, the smaller first",
        };
        Err(Error::option("range", format!("{low} to {high}"), expected))
    }
}

impl std::fmt::Display for ValueRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Pillow => write!(f, "pillow"),
            Self::Fixed { low, high } => write!(f, "fixed:{low}:{high}"),
            Self::Percentiles { low, high } => write!(f, "percentiles:{low}:{high}"),
        }
    }
}

impl std::str::FromStr for ValueRange {
    type Err = String;

    /// Reads what [`Display`](std::fmt::Display) writes: `auto`, `pillow`, `fixed:LOW:HIGH` or `percentiles:LOW:HIGH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
        let mut parts = text.split(':');
        let range = match (parts.next(), number(parts.next()), number(parts.next()), parts.next()) {
            (Some("auto"), None, None, None) if text == "auto" => Self::Auto,
            (Some("pillow"), None, None, None) if text == "pillow" => Self::Pillow,
            (Some("fixed"), Some(low), Some(high), None) => Self::Fixed { low, high },
            (Some("percentiles"), Some(low), Some(high), None) => Self::Percentiles { low, high },
            _ => return Err("expected auto, pillow, fixed:LOW:HIGH or percentiles:LOW:HIGH".to_owned()),
        };
        range.check().map(|()| range).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_as_text_is_read_back() {
        for text in ["auto", "pillow", "fixed:-1000:3000.5", "percentiles:0.5:99.5"] {
            assert_eq!(text.parse::<ValueRange>().unwrap().to_string(), text);
        }
        for text in ["", "full", "auto:1:2", "fixed", "fixed:1", "fixed:1:x", "fixed:1:2:3", "fixed:2:1", "auto:"] {
            assert!(text.parse::<ValueRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn range_out_of_order_is_refused() {
        let fixed = |low, high| ValueRange::Fixed { low, high }.check();
        let percentiles = |low, high| ValueRange::Percentiles { low, high }.check();
        assert!(fixed(-1000.0, 3000.0).is_ok() && percentiles(0.0, 99.9).is_ok() && ValueRange::Auto.check().is_ok());
        for refused in [fixed(1.0, 1.0), fixed(2.0, 1.0), fixed(f64::NAN, 1.0), fixed(0.0, f64::INFINITY)] {
            assert!(refused.unwrap_err().to_string().contains("two numbers, the smaller first"));
        }
        for refused in [percentiles(-1.0, 50.0), percentiles(1.0, 100.5), percentiles(50.0, 50.0)] {
            assert!(refused.unwrap_err().to_string().contains("two percentiles from 0 to 100"));
        }
    }
}
