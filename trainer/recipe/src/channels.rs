//! Defaults of the augmentation for images of other than three channels.

use serde_json::{Value, json};

use crate::dataset::RGB;
use crate::presets::merged;

/// Most channels that images may have.
pub(crate) const MOST: usize = 32;
/// Mean and standard deviation of each channel without statistics of its own: values from 0 to 1 become −2 to 2.
const NORMALIZATION: (f64, f64) = (0.5, 0.25);

/// `spec` with what `dataset.channels` implies underneath the user's fields: one mean and one standard deviation for each
/// channel, and no colour operations, which need RGB. Like a preset, it takes effect before the rules.
pub(crate) fn with_channels(spec: Value) -> Value {
    let channels = spec.pointer("/dataset/channels").and_then(Value::as_u64).unwrap_or(RGB as u64) as usize;
    if channels == RGB || !(1..=MOST).contains(&channels) || !spec["pretrain"].is_object() {
        return spec;
    }
    let (mean, std) = NORMALIZATION;
    let augment = json!({
        "mean": vec![mean; channels], "std": vec![std; channels], "saturation": 0.0, "hue": 0.0, "grayscaleProb": 0.0,
    });
    merged(spec, json!({"pretrain": {"augment": augment}}))
}
