//! How samples of more than 8 bits become 8 bits, and which pages of a TIFF file are samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// Which values are black and white in images of more than 8 bits per sample. The loader works with 8 bits; values
/// between the two are scaled linearly, values outside are clipped. Images of 8 bits are never changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = rules::range)]
pub struct ValueRange {
    /// Where the two values come from. Default: auto.
    #[serde(default)]
    pub mode: RangeMode,
    /// With fixed, the value that becomes black, in the units of the file; with percentiles, a percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// With fixed, the value that becomes white, in the units of the file; with percentiles, a percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

impl ValueRange {
    /// Whether it is the default, which is not written: a run with it continues one without the field.
    pub(crate) fn is_auto(&self) -> bool {
        self.mode == RangeMode::Auto
    }
}

/// Where the values that are black and white come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum RangeMode {
    /// The sample type: all values of an integer type, 0 to 1 for floating point. Of a DICOM file its window, or else
    /// all values that its stored bits can hold.
    #[default]
    Auto,
    /// The pixels of Pillow's convert("RGB"): 16-bit gray is clipped at 255.
    Pillow,
    /// low and high.
    Fixed,
    /// The percentiles low and high of each image's own values.
    Percentiles,
}

/// Which pages of a TIFF file with several are samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Pages {
    /// The first page.
    #[default]
    First,
    /// Each page; page 2 of a.tif is named a.tif#2.
    All,
}

impl Pages {
    /// Whether it is the default, which is not written: a run with it continues one without the field.
    pub(crate) fn is_first(&self) -> bool {
        *self == Self::First
    }
}
