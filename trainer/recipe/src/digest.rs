//! The digest of the fields that determine the arithmetic of pre-training.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dataset::RGB;
use crate::pretrain::Pretrain;
use crate::recipe::Recipe;

/// Fields of `dataset` that change what a training step sees.
const OF_DATASET: &[&str] = &["channels", "decode", "imageColumn", "imageKey", "labelColumn", "pack", "pages", "range"];

/// Fields of `pretrain` that do not change a pre-training step: names, stopping and evaluation.
const NOT_ARITHMETIC: &[&str] = &["/preset", "/collapse", "/augment/preset", "/augment/evalResize"];

/// Fields of `pretrain` that earlier versions do not have. At its default, such a field changes nothing and is left out, so
/// that the digests of earlier checkpoints stay valid.
const ADDED_LATER: &[&str] =
    &["/augment/quarterTurnProb", "/augment/solarizeProb", "/augment/solarizeThreshold", "/augment/verticalFlipProb"];

impl Recipe {
    /// The fields that determine the arithmetic of pre-training, with defaults and presets filled in:
    /// `weights` where they are given; `decode`, `imageKey`, `imageColumn`, `labelColumn` (the order of samples depends on
    /// their classes) and `pack` of `dataset`, and its `channels`, `pages` and `range` where they are not the default; and
    /// all of `pretrain` but `preset` and `augment.preset` (their values count, not their names), `collapse` (it only stops
    /// a run) and `augment.evalResize` (only evaluation uses it).
    ///
    /// Everything else (the rest of `dataset`, `output`, `knn`, `linear`, `finetune`, `export`, `checkpoint`, `track`) may differ
    /// between two attempts that continue one another. The training set may be at another address, under another mount point for instance; it
    /// is recognised by its number of samples.
    pub fn arithmetic(&self) -> Value {
        let mut pretrain = serde_json::to_value(&self.pretrain).unwrap_or_default();
        let defaults = serde_json::to_value(Pretrain::default()).unwrap_or_default();
        let at_default = ADDED_LATER.iter().copied().filter(|field| pretrain.pointer(field) == defaults.pointer(field));
        let left_out: Vec<&str> = at_default.chain(NOT_ARITHMETIC.iter().copied()).collect();
        for pointer in left_out {
            let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(Value::Object(parent)) = pretrain.pointer_mut(parent) {
                parent.remove(key);
            }
        }
        let mut dataset = serde_json::to_value(&self.dataset).unwrap_or_default();
        if let Some(fields) = dataset.as_object_mut() {
            let is_default = |name: &str, value: &Value| name == "channels" && *value == json!(RGB);
            fields.retain(|name, value| OF_DATASET.contains(&name.as_str()) && !is_default(name, value));
        }
        let mut arithmetic = json!({"dataset": dataset, "pretrain": pretrain});
        if let Some(weights) = &self.weights {
            arithmetic["weights"] = json!(weights);
        }
        arithmetic
    }

    /// SHA-256, in lower-case hex, of [`Recipe::arithmetic`] as JSON without spaces and with sorted keys.
    pub fn digest(&self) -> String {
        digest_of(&self.arithmetic())
    }
}

/// SHA-256, in lower-case hex, of a document as JSON without spaces and with sorted keys.
pub fn digest_of(document: &Value) -> String {
    let mut text = String::new();
    canonical(document, &mut text);
    hex(&Sha256::digest(text.as_bytes()))
}

/// Bytes, such as those of a digest, in lower-case hex.
///
/// ```
/// assert_eq!(simsiam_recipe::hex(&[0, 171]), "00ab");
/// ```
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `value` with sorted keys, whichever order serde_json's maps keep in this build.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(entries) => {
            out.push('[');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(entry, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
