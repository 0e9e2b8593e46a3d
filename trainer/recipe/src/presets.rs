//! The named presets: partial JSON objects merged *underneath* the user's fields.
//!
//! A preset is merged before the typed parse, object by object: what the user wrote wins, what the user left
//! out comes from the preset, what neither has is the type's default. So every field exists once, and a
//! preset can set any of them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::augment::AugmentPreset;
use crate::evaluation::{Linear, LinearPreset};
use crate::pretrain::{Preset, Pretrain};

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Imagenet100ep, Self::Imagenet100epBs256, Self::TransferOptimal, Self::PaperBaseline, Self::Cifar10];

    /// The fields of `pretrain` this preset sets.
    pub fn fields(self) -> Value {
        let imagenet = json!({
            "arch": "resnet50", "stem": "imagenet", "epochs": 100, "batchSize": 512, "lr": 0.05,
            "momentum": 0.9, "weightDecay": 1e-4, "schedule": "cosinePerEpoch", "fixPredLr": true,
            "projector": {"layers": 3}, "dim": 2048, "predDim": 512,
        });
        let over = match self {
            Self::Imagenet100ep => json!({}),
            Self::Imagenet100epBs256 => json!({"batchSize": 256}),
            Self::TransferOptimal => json!({"lr": 0.5, "weightDecay": 1e-5, "epochs": 200}),
            Self::PaperBaseline => json!({"fixPredLr": false}),
            Self::Cifar10 => json!({
                "arch": "resnet18", "stem": "cifar", "epochs": 800, "lr": 0.03, "weightDecay": 5e-4,
                "projector": {"layers": 2, "hiddenDim": 2048},
                // The images are 32×32 already: evaluation takes them whole.
                "augment": {"cropSize": 32, "blurProb": 0, "evalResize": 32},
            }),
        };
        merged(over, imagenet)
    }
}

impl AugmentPreset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aerial, Self::Microscopy, Self::Medical];

    /// The preset's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aerial => "aerial",
            Self::Microscopy => "microscopy",
            Self::Medical => "medical",
        }
    }

    /// The fields of `augment` this preset sets; `docs/views.md` has the reason for each.
    pub fn fields(self) -> Value {
        match self {
            Self::Aerial => json!({"quarterTurnProb": 0.75, "hue": 0.05}),
            Self::Microscopy => json!({
                "quarterTurnProb": 0.75, "minScale": 0.4, "saturation": 0.2, "hue": 0.05, "grayscaleProb": 0,
                "blurSigma": [0.1, 1],
            }),
            Self::Medical => json!({
                "minScale": 0.5, "saturation": 0, "hue": 0, "grayscaleProb": 0, "blurProb": 0,
            }),
        }
    }
}

impl LinearPreset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LinearLars, Self::LinearPaper, Self::LinearSgd];

    /// The fields of `linear` this preset sets.
    pub fn fields(self) -> Value {
        let (optimizer, lr, batch_size) = match self {
            Self::LinearLars => ("lars", 0.1, 4096),
            Self::LinearPaper => ("lars", 0.02, 4096),
            Self::LinearSgd => ("sgd", 30.0, 256),
        };
        json!({
            "epochs": 90, "batchSize": batch_size, "lr": lr, "optimizer": optimizer, "momentum": 0.9,
            "weightDecay": 0, "trustCoefficient": 0.001,
        })
    }
}

/// `over` with everything it does not have taken from `under`; objects are merged, all else is replaced.
pub(crate) fn merged(over: Value, under: Value) -> Value {
    match (over, under) {
        (Value::Object(over), Value::Object(mut under)) => {
            for (key, value) in over {
                let value = match under.remove(&key) {
                    Some(below) => merged(value, below),
                    None => value,
                };
                under.insert(key, value);
            }
            Value::Object(under)
        }
        (over, _) => over,
    }
}

/// `pretrain` with its presets underneath: that of `augment`, which is the more specific one, then its own. A preset that
/// is not named or unknown changes nothing.
pub(crate) fn with_pretrain_preset(pretrain: Value) -> Value {
    let pretrain = with_augment_preset(pretrain);
    match preset_of::<Preset>(&pretrain) {
        Some(preset) => merged(pretrain, preset.fields()),
        None => pretrain,
    }
}

/// `pretrain` with the preset of its `augment` alone underneath.
pub(crate) fn with_augment_preset(pretrain: Value) -> Value {
    match pretrain.get("augment").and_then(preset_of::<AugmentPreset>) {
        Some(preset) => merged(pretrain, json!({"augment": preset.fields()})),
        None => pretrain,
    }
}

/// `linear` with its preset underneath; unchanged if it names none or an unknown one.
pub(crate) fn with_linear_preset(linear: Value) -> Value {
    match preset_of::<LinearPreset>(&linear) {
        Some(preset) => merged(linear, preset.fields()),
        None => linear,
    }
}

fn preset_of<P: for<'de> Deserialize<'de>>(section: &Value) -> Option<P> {
    P::deserialize(section.get("preset")?).ok()
}

/// Deserialises `pretrain` with its preset merged in.
pub(crate) fn under_pretrain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pretrain>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else {
        return Ok(None);
    };
    Pretrain::deserialize(with_pretrain_preset(value)).map(Some).map_err(D::Error::custom)
}

/// Deserialises `linear` with its preset merged in.
pub(crate) fn under_linear<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Linear>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else {
        return Ok(None);
    };
    Linear::deserialize(with_linear_preset(value)).map(Some).map_err(D::Error::custom)
}
