//! Every rule of validation, once, as data.
//!
//! A rule is a CEL expression, the message if it is false, and the field that it is about. It goes into the
//! schema as `x-kubernetes-validations`, from where an API server evaluates it on `kubectl apply` and
//! [`crate::Recipe::check`] evaluates it here. An API server sees only the user's fields, so a rule over several
//! fields checks `has()` for each; here the rules also see defaults and presets.

use schemars::Schema;
use serde_json::{Value, json};

/// The message of a rule that is false.
#[derive(Debug, Clone, Copy)]
pub enum Message {
    /// A fixed text, for a message that needs only the field's own value.
    Text(&'static str),
    /// A CEL expression that computes the text. It inserts values by `format`: API servers treat the length
    /// of `string(…)` as unbounded and reject a message that appends it because of its cost.
    Cel(&'static str),
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The property that the rule is attached to, with `self` as its value; `None` for the object itself.
    pub on: Option<&'static str>,
    /// The CEL expression that must be true.
    pub cel: &'static str,
    /// The message if it is false.
    pub message: Message,
    /// For a rule on an object: the field that it is about, as `.field`.
    pub field_path: Option<&'static str>,
    /// The field is missing, rather than invalid.
    pub required: bool,
}

impl Rule {
    /// A rule on one property.
    pub const fn on(property: &'static str, cel: &'static str, text: &'static str) -> Self {
        Self { on: Some(property), cel, message: Message::Text(text), field_path: None, required: false }
    }

    /// A rule over several fields of an object, reported on one of them.
    pub const fn across(field_path: &'static str, cel: &'static str, message: &'static str) -> Self {
        Self { on: None, cel, message: Message::Cel(message), field_path: Some(field_path), required: false }
    }

    /// A rule of an object that forbids a combination of fields; as [`Rule::across`], with a message that needs no values.
    pub const fn forbids(field_path: &'static str, cel: &'static str, text: &'static str) -> Self {
        Self { on: None, cel, message: Message::Text(text), field_path: Some(field_path), required: false }
    }

    /// A rule of an object that requires a field.
    pub const fn needs(field_path: &'static str, cel: &'static str, text: &'static str) -> Self {
        Self { on: None, cel, message: Message::Text(text), field_path: Some(field_path), required: true }
    }

    /// The entry of `x-kubernetes-validations`; `shape` is the schema that the rule is attached to.
    fn entry(&self, shape: &Value) -> Value {
        let mut entry = json!({"rule": self.cel});
        match self.message {
            Message::Text(text) => {
                entry["message"] = json!(text);
                // API servers print a value's type instead of the value, so the message includes the value.
                let scalar = matches!(shape["type"].as_str(), Some("integer" | "number" | "string"));
                if self.on.is_some() && scalar {
                    entry["messageExpression"] =
                        json!(format!("'{}, not %s'.format([self])", text.replace('\'', "\\'")));
                }
            }
            Message::Cel(expression) => entry["messageExpression"] = json!(expression),
        }
        if let Some(path) = self.field_path {
            entry["fieldPath"] = json!(path);
        }
        if self.required {
            entry["reason"] = json!("FieldValueRequired");
        }
        entry
    }
}

/// Attaches `rules` to the schema of an object.
pub fn attach(schema: &mut Schema, rules: &[Rule]) {
    for rule in rules {
        let target = match rule.on {
            Some(name) => schema.pointer_mut(&format!("/properties/{name}")),
            None => schema.pointer_mut(""),
        };
        let Some(target) = target.and_then(Value::as_object_mut) else {
            continue;
        };
        let entry = rule.entry(&Value::Object(target.clone()));
        if let Value::Array(entries) = target.entry("x-kubernetes-validations").or_insert_with(|| json!([])) {
            entries.push(entry);
        }
    }
}

// Anything with a scheme, even without its slashes, must have a supported one.
const LOCATION: &str = "self.size() > 0 && (!self.matches('^[A-Za-z0-9+.-]+:') || self.matches(\
    '^(file:///.|(s3|gs|az)://[^/]+(/.*)?$|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?$)'))";
const LOCATION_TEXT: &str = "must be a path, file:///path, s3://bucket/prefix, gs://bucket/prefix, \
    az://container/prefix or pvc://claim/path";
const ENDPOINT: &str = "self.matches('^https?://[^/ ]+/?$')";
const ENDPOINT_TEXT: &str = "must be http://host:port or https://host:port";
const VALUE: &str = "self >= -1000000000000.0 && self <= 1000000000000.0";
const VALUE_TEXT: &str = "must be between -1000000000000 and 1000000000000";
const RANGE_NEEDS_LOW: &str = "!has(self.mode) || !(self.mode in ['fixed', 'percentiles']) || has(self.low)";
const RANGE_NEEDS_HIGH: &str = "!has(self.mode) || !(self.mode in ['fixed', 'percentiles']) || has(self.high)";
const RANGE_TEXT: &str = "must not be set without mode fixed or percentiles";
const REGION: &str = "self.matches('^[A-Za-z0-9-]+$')";
const REGION_TEXT: &str = "must be letters, digits and -";
const SECRET: &str = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";
const SECRET_TEXT: &str = "must be the name of a Secret: lower-case letters, digits, - and .";
const SIDE: &str = "self >= 16 && self <= 65500";
const SIDE_TEXT: &str = "must be between 16 and 65500";
const PROBABILITY: &str = "self >= 0.0 && self <= 1.0";
const PROBABILITY_TEXT: &str = "must be between 0 and 1";
const STRENGTH: &str = "self >= 0.0 && self <= 10.0";
const STRENGTH_TEXT: &str = "must be between 0 and 10";
const AREA: &str = "self > 0.0 && self <= 1.0";
const AREA_TEXT: &str = "must be above 0 and at most 1";
const RATE: &str = "self > 0.0 && self <= 1000.0";
const RATE_TEXT: &str = "must be above 0 and at most 1000";
const MOMENTUM: &str = "self >= 0.0 && self < 1.0";
const MOMENTUM_TEXT: &str = "must be at least 0 and below 1";
const COUNT: &str = "self >= 1 && self <= 1000000000";
const COUNT_TEXT: &str = "must be between 1 and 1000000000";
const EPOCHS: &str = "self >= 1 && self <= 100000";
const EPOCHS_TEXT: &str = "must be between 1 and 100000";
const EVERY: &str = "self >= 0 && self <= 100000";
const EVERY_TEXT: &str = "must be between 0 and 100000";
const WIDTH: &str = "self >= 1 && self <= 65536";
const WIDTH_TEXT: &str = "must be between 1 and 65536";
const SHOWN: &str = "self >= 0 && self <= 48";
const SHOWN_TEXT: &str = "must be between 0 and 48";
// 2^53 - 1: the largest integer that every JSON reader takes exactly.
const SEED: &str = "self >= 0 && self <= 9007199254740991";
const SEED_TEXT: &str = "must be between 0 and 9007199254740991";

const ONE_PER_CHANNEL: &str = "'must have one number for each of the %s channels of dataset.channels'\
    .format([has(self.dataset.channels) ? self.dataset.channels : 3])";

/// A field of `pretrain.augment` is as `$is` says unless the images are RGB. A number of channels out of range is refused
/// by itself.
macro_rules! only_rgb {
    ($field:literal, $is:literal) => {
        concat!(
            "!has(self.dataset.channels) || self.dataset.channels == 3 || self.dataset.channels < 1 ",
            "|| self.dataset.channels > 32 || !has(self.pretrain) || !has(self.pretrain.augment) ",
            "|| !has(self.pretrain.augment.",
            $field,
            ") || self.pretrain.augment.",
            $field,
            " ",
            $is
        )
    };
}

/// A list of `pretrain.augment` has an entry for each channel.
macro_rules! each_channel {
    ($field:literal) => {
        concat!(
            "(has(self.dataset.channels) && (self.dataset.channels < 1 || self.dataset.channels > 32)) ",
            "|| !has(self.pretrain) || !has(self.pretrain.augment) || !has(self.pretrain.augment.",
            $field,
            ") || self.pretrain.augment.",
            $field,
            ".size() == (has(self.dataset.channels) ? self.dataset.channels : 3)"
        )
    };
}

/// Rules of the whole recipe.
pub const RECIPE: &[Rule] = &[
    Rule::on("weights", LOCATION, LOCATION_TEXT),
    Rule::needs(
        ".pretrain",
        "has(self.pretrain) || has(self.knn) || has(self.linear) || has(self.finetune)",
        "nothing to do: set at least one of pretrain, knn, linear and finetune",
    ),
    Rule::needs(
        ".dataset.val",
        "!has(self.knn) || has(self.dataset.val) || has(self.dataset.probe)",
        "knn needs labelled validation images",
    ),
    Rule::needs(
        ".dataset.val",
        "!has(self.linear) || has(self.dataset.val) || has(self.dataset.probe)",
        "linear needs labelled validation images",
    ),
    Rule::needs(
        ".dataset.val",
        "!has(self.finetune) || has(self.dataset.val) || has(self.dataset.probe)",
        "finetune needs labelled validation images",
    ),
    Rule::forbids(
        ".export",
        "!has(self.export) || !('huggingface' in self.export) || !has(self.pretrain) \
            || ((!has(self.pretrain.stem) || self.pretrain.stem == 'imagenet') \
                && (!has(self.pretrain.baseWidth) || self.pretrain.baseWidth == 64))",
        "huggingface needs stem imagenet and baseWidth 64: timm has no other ResNets; export onnx or safetensors",
    ),
    Rule::across(".pretrain.augment.mean", each_channel!("mean"), ONE_PER_CHANNEL),
    Rule::across(".pretrain.augment.std", each_channel!("std"), ONE_PER_CHANNEL),
    Rule::forbids(
        ".pretrain.augment.saturation",
        only_rgb!("saturation", "<= 0.0"),
        "must be 0 unless dataset.channels is 3: saturation is defined for RGB images only",
    ),
    Rule::forbids(
        ".pretrain.augment.hue",
        only_rgb!("hue", "<= 0.0"),
        "must be 0 unless dataset.channels is 3: hue is defined for RGB images only",
    ),
    Rule::forbids(
        ".pretrain.augment.grayscaleProb",
        only_rgb!("grayscaleProb", "<= 0.0"),
        "must be 0 unless dataset.channels is 3: conversion to grayscale is defined for RGB images only",
    ),
    Rule::forbids(
        ".pretrain.augment.secondView.grayscaleProb",
        "!has(self.dataset.channels) || self.dataset.channels == 3 || self.dataset.channels < 1 \
            || self.dataset.channels > 32 || !has(self.pretrain) || !has(self.pretrain.augment) \
            || !has(self.pretrain.augment.secondView) || !has(self.pretrain.augment.secondView.grayscaleProb) \
            || self.pretrain.augment.secondView.grayscaleProb <= 0.0",
        "must be 0 unless dataset.channels is 3: conversion to grayscale is defined for RGB images only",
    ),
    Rule::forbids(
        ".pretrain.augment.device",
        only_rgb!("device", "== 'cpu'"),
        "must be cpu unless dataset.channels is 3: the augmentation on the device is written for RGB images",
    ),
];

const COLUMN: &str = "self != '' && !self.matches('[[:cntrl:]]')";
const COLUMN_TEXT: &str = "must be the name of a column, without control characters";

/// Rules of `dataset`.
pub const DATASET: &[Rule] = &[
    Rule::on("train", LOCATION, LOCATION_TEXT),
    Rule::on("val", LOCATION, LOCATION_TEXT),
    Rule::on(
        "imageKey",
        "self.matches('^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$')",
        "must be an ending without the first dot, such as jpg or left.jpg",
    ),
    Rule::on("imageColumn", COLUMN, COLUMN_TEXT),
    Rule::on("labelColumn", COLUMN, COLUMN_TEXT),
    Rule::across(
        ".val",
        "!has(self.val) || !has(self.probe)",
        "'must not be set when probe is set, not %s'.format([self.val])",
    ),
    Rule::on("channels", "self >= 1 && self <= 32", "must be between 1 and 32"),
    Rule::forbids(
        ".pack",
        "!has(self.channels) || self.channels == 3 || !has(self.pack) || (!has(self.pack.maxSide) && !has(self.pack.shortSide))",
        "must not set maxSide or shortSide unless channels is 3: images of other than three channels are packed as they are",
    ),
    Rule::on("maxCorrupt", "self >= 0 && self <= 1000000000", "must be between 0 and 1000000000"),
    Rule::on("loaderThreads", "self >= 1 && self <= 1024", "must be between 1 and 1024"),
    Rule::on("endpoint", ENDPOINT, ENDPOINT_TEXT),
    Rule::on("region", REGION, REGION_TEXT),
];

/// Rules of `dataset.probe`.
pub const PROBE: &[Rule] = &[Rule::on("train", LOCATION, LOCATION_TEXT), Rule::on("val", LOCATION, LOCATION_TEXT)];

/// Rules of `dataset.pack`.
pub const PACK: &[Rule] = &[
    Rule::on("maxSide", SIDE, SIDE_TEXT),
    Rule::on("shortSide", SIDE, SIDE_TEXT),
    Rule::on("quality", "self >= 1 && self <= 100", "must be between 1 and 100"),
    Rule::across(
        ".shortSide",
        "!has(self.shortSide) || !has(self.maxSide)",
        "'must not be set when maxSide is set (%s)'.format([self.maxSide])",
    ),
];

/// Rules of `dataset.range`.
pub const RANGE: &[Rule] = &[
    Rule::on("low", VALUE, VALUE_TEXT),
    Rule::on("high", VALUE, VALUE_TEXT),
    Rule::needs(".low", RANGE_NEEDS_LOW, "must be set with mode fixed or percentiles"),
    Rule::needs(".high", RANGE_NEEDS_HIGH, "must be set with mode fixed or percentiles"),
    Rule::forbids(".low", "has(self.mode) && self.mode in ['fixed', 'percentiles'] || !has(self.low)", RANGE_TEXT),
    Rule::forbids(".high", "has(self.mode) && self.mode in ['fixed', 'percentiles'] || !has(self.high)", RANGE_TEXT),
    Rule::across(
        ".low",
        "!has(self.low) || !has(self.high) || self.low < self.high",
        "'must be below high (%s), not %s'.format([self.high, self.low])",
    ),
    Rule::across(
        ".low",
        "!has(self.mode) || self.mode != 'percentiles' || !has(self.low) || self.low >= 0.0",
        "'must be a percentile from 0 to 100, not %s'.format([self.low])",
    ),
    Rule::across(
        ".high",
        "!has(self.mode) || self.mode != 'percentiles' || !has(self.high) || self.high <= 100.0",
        "'must be a percentile from 0 to 100, not %s'.format([self.high])",
    ),
];

/// Rules of `dataset.cache`.
pub const CACHE: &[Rule] = &[Rule::on(
    "sizeLimit",
    "self.matches('^[0-9]{1,15}([.][0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?$')",
    "must be a number of bytes such as 200Gi",
)];

/// Rules of `output`.
pub const OUTPUT: &[Rule] = &[
    Rule::on("uri", LOCATION, LOCATION_TEXT),
    Rule::on("credentialsSecret", SECRET, SECRET_TEXT),
    Rule::on("endpoint", ENDPOINT, ENDPOINT_TEXT),
    Rule::on("region", REGION, REGION_TEXT),
];

/// Rules of `checkpoint`.
pub const CHECKPOINT: &[Rule] = &[
    Rule::on("everySteps", COUNT, COUNT_TEXT),
    Rule::on("everyEpochs", EVERY, EVERY_TEXT),
    Rule::on("keepLast", "self >= 1 && self <= 1000", "must be between 1 and 1000"),
    Rule::on("keepEveryEpochs", EVERY, EVERY_TEXT),
];

/// Rules of `pretrain`.
pub const PRETRAIN: &[Rule] = &[
    Rule::on("epochs", EPOCHS, EPOCHS_TEXT),
    Rule::on("batchSize", "self >= 2 && self <= 1048576", "must be between 2 and 1048576"),
    Rule::on("lr", RATE, RATE_TEXT),
    Rule::on("momentum", MOMENTUM, MOMENTUM_TEXT),
    Rule::on("weightDecay", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("warmupEpochs", EVERY, EVERY_TEXT),
    Rule::on("seed", SEED, SEED_TEXT),
    Rule::on("accumulate", "self >= 1 && self <= 4096", "must be between 1 and 4096"),
    Rule::on("baseWidth", "self >= 4 && self <= 1024", "must be between 4 and 1024"),
    Rule::on("dim", "self >= 2 && self <= 65536", "must be between 2 and 65536"),
    Rule::on("predDim", WIDTH, WIDTH_TEXT),
    Rule::across(
        ".warmupEpochs",
        "!has(self.warmupEpochs) || !has(self.epochs) || self.epochs < 1 \
            || self.warmupEpochs <= self.epochs",
        "'must be at most epochs (%s), not %s'.format([self.epochs, self.warmupEpochs])",
    ),
    // Batch norm needs two images in every micro-batch, hence the second half.
    Rule::across(
        ".accumulate",
        "!has(self.accumulate) || !has(self.batchSize) || self.accumulate < 1 \
            || self.accumulate > 4096 || self.batchSize < 2 \
            || (self.batchSize % self.accumulate == 0 && self.batchSize >= 2 * self.accumulate)",
        "'must divide batchSize (%s) into micro-batches of 2 images or more, not %s'\
            .format([self.batchSize, self.accumulate])",
    ),
    Rule::across(
        ".baseWidth",
        "!has(self.baseWidth) || !has(self.arch) || self.baseWidth == 64 \
            || !(self.arch.startsWith('wide_') || self.arch.startsWith('resnext'))",
        "'must be 64 with arch %s (only resnet18 to resnet152 support another width), not %s'\
            .format([self.arch, self.baseWidth])",
    ),
    // The paper changes one thing at a time, and without a stop-gradient there are no targets to compute in advance.
    Rule::across(
        ".ablation",
        "!has(self.alternation) || !has(self.ablation) || self.ablation == 'none'",
        "'must be none when alternation is set, not %s'.format([self.ablation])",
    ),
];

/// Rules of `pretrain.alternation`.
pub const ALTERNATION: &[Rule] = &[
    Rule::on("steps", COUNT, COUNT_TEXT),
    Rule::needs(
        ".steps",
        "has(self.steps) || (has(self.epoch) && self.epoch)",
        "set either steps, as in {steps: 100}, or {epoch: true}",
    ),
    Rule::across(
        ".steps",
        "!has(self.steps) || !has(self.epoch) || !self.epoch",
        "'must not be set when epoch is true, not %s'.format([self.steps])",
    ),
];

/// Rules of `pretrain.projector`.
pub const PROJECTOR: &[Rule] =
    &[Rule::on("layers", "self == 2 || self == 3", "must be 2 or 3"), Rule::on("hiddenDim", WIDTH, WIDTH_TEXT)];

/// Rules of `pretrain.augment`.
pub const AUGMENT: &[Rule] = &[
    Rule::on("cropSize", "self >= 8 && self <= 1024", "must be between 8 and 1024"),
    Rule::on("minScale", AREA, AREA_TEXT),
    Rule::on("maxScale", AREA, AREA_TEXT),
    Rule::across(
        ".minScale",
        "!has(self.minScale) || !has(self.maxScale) || self.maxScale <= 0.0 \
            || self.minScale <= self.maxScale",
        "'must be at most maxScale (%s), not %s'.format([self.maxScale, self.minScale])",
    ),
    Rule::on("jitterProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("brightness", STRENGTH, STRENGTH_TEXT),
    Rule::on("contrast", STRENGTH, STRENGTH_TEXT),
    Rule::on("saturation", STRENGTH, STRENGTH_TEXT),
    Rule::on("hue", "self >= 0.0 && self <= 0.5", "must be between 0 and 0.5"),
    Rule::on("grayscaleProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("blurProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on(
        "blurSigma",
        "self[0] > 0.0 && self[0] <= self[1] && self[1] <= 100.0",
        "must be two numbers above 0 and at most 100, the smaller first",
    ),
    Rule::on("flipProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("verticalFlipProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("quarterTurnProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("solarizeProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("solarizeThreshold", "self >= 0 && self <= 255", "must be between 0 and 255"),
    Rule::on("evalResize", "self >= 8 && self <= 4096", "must be between 8 and 4096"),
    Rule::across(
        ".evalResize",
        "!has(self.evalResize) || !has(self.cropSize) || self.evalResize >= self.cropSize",
        "'must be at least cropSize (%s), not %s'.format([self.cropSize, self.evalResize])",
    ),
    Rule::on("mean", "self.all(x, x >= 0.0 && x <= 1.0)", "must be numbers between 0 and 1"),
    Rule::on("std", "self.all(x, x > 0.0 && x <= 10.0)", "must be numbers above 0 and at most 10"),
];

/// Rules of `pretrain.augment.secondView`.
pub const SECOND_VIEW: &[Rule] = &[
    Rule::on("jitterProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("grayscaleProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("blurProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("solarizeProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("flipProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("verticalFlipProb", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("quarterTurnProb", PROBABILITY, PROBABILITY_TEXT),
];

/// Rules of `pretrain.collapse`.
pub const COLLAPSE: &[Rule] = &[Rule::on("patienceSteps", COUNT, COUNT_TEXT), Rule::on("threshold", AREA, AREA_TEXT)];

/// Rules of `knn`.
pub const KNN: &[Rule] = &[Rule::on("everyEpochs", EVERY, EVERY_TEXT), Rule::on("batchSize", WIDTH, WIDTH_TEXT)];

/// Rules of one of `knn.protocols`.
pub const KNN_PROTOCOL: &[Rule] = &[
    Rule::on("k", "self >= 1 && self <= 1000000", "must be between 1 and 1000000"),
    Rule::on("temperature", "self > 0.0 && self <= 100.0", "must be above 0 and at most 100"),
];

/// Rules of `linear`.
pub const LINEAR: &[Rule] = &[
    Rule::on("epochs", EPOCHS, EPOCHS_TEXT),
    Rule::on("batchSize", "self >= 1 && self <= 1048576", "must be between 1 and 1048576"),
    Rule::on("lr", RATE, RATE_TEXT),
    Rule::on("momentum", MOMENTUM, MOMENTUM_TEXT),
    Rule::on("weightDecay", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("trustCoefficient", AREA, AREA_TEXT),
    Rule::on("minScale", AREA, AREA_TEXT),
    Rule::on("seed", SEED, SEED_TEXT),
];

/// Rules of `finetune`.
pub const FINETUNE: &[Rule] = &[
    Rule::on("fraction", AREA, AREA_TEXT),
    Rule::on("epochs", EPOCHS, EPOCHS_TEXT),
    // Its batch norms see each rank's images.
    Rule::on("batchSize", "self >= 2 && self <= 1048576", "must be between 2 and 1048576"),
    Rule::on("lr", RATE, RATE_TEXT),
    Rule::on("classifierLr", RATE, RATE_TEXT),
    Rule::on("momentum", MOMENTUM, MOMENTUM_TEXT),
    Rule::on("weightDecay", PROBABILITY, PROBABILITY_TEXT),
    Rule::on("minScale", AREA, AREA_TEXT),
    Rule::on("seed", SEED, SEED_TEXT),
];

/// Rules of `report`.
pub const REPORT: &[Rule] = &[
    Rule::on("views", SHOWN, SHOWN_TEXT),
    Rule::on("queries", SHOWN, SHOWN_TEXT),
    Rule::on("bank", "self >= 10 && self <= 1000000", "must be between 10 and 1000000"),
    Rule::on("points", "self >= 10 && self <= 5000", "must be between 10 and 5000"),
];

/// Rules of `track.mlflow`. That on credentials is of the kind whose message does not repeat the value.
pub const MLFLOW: &[Rule] = &[
    Rule::needs(
        ".uri",
        "!has(self.uri) || !self.uri.contains('@')",
        "an address without user name and password: locally set MLFLOW_TRACKING_USERNAME and \
            MLFLOW_TRACKING_PASSWORD in the environment, on a cluster name a Secret in credentialsSecret",
    ),
    Rule::on(
        "uri",
        "self.contains('@') || self.matches('^https?://[^/ ?#]+(/[^ ?#]*)?$')",
        "must be http://host:port or https://host:port, with a path if the server has one",
    ),
    Rule::on(
        "experiment",
        "self.matches('^[^ ](.*[^ ])?$')",
        "must be a name that neither begins nor ends with a space",
    ),
    Rule::on("credentialsSecret", SECRET, SECRET_TEXT),
];

/// Rules of a run's name (`metadata.name`), for the schema of the whole custom resource: the names derived
/// from it must fit the 63 characters of a DNS label, and that of its Service must be a DNS-1035 label.
pub const RUN: &[Rule] = &[Rule {
    on: None,
    cel: "self.metadata.name.size() <= 40 \
        && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message: Message::Cel(
        "'must be at most 40 lower-case letters, digits and -, beginning with a letter \
            and ending with a letter or digit (a DNS-1035 label), not %s'.format([self.metadata.name])",
    ),
    field_path: Some(".metadata.name"),
    required: false,
}];

macro_rules! transforms {
    ($($name:ident: $rules:ident),* $(,)?) => {
        $(pub(crate) fn $name(schema: &mut Schema) {
            attach(schema, $rules);
        })*
    };
}

transforms! {
    recipe: RECIPE, dataset: DATASET, probe: PROBE, pack: PACK, range: RANGE, cache: CACHE, output: OUTPUT, checkpoint: CHECKPOINT, pretrain: PRETRAIN,
    alternation: ALTERNATION, projector: PROJECTOR, augment: AUGMENT, second_view: SECOND_VIEW, collapse: COLLAPSE, knn: KNN,
    knn_protocol: KNN_PROTOCOL, linear: LINEAR, finetune: FINETUNE, report: REPORT, mlflow: MLFLOW,
}

/// [`RUN`] as entries of `x-kubernetes-validations`, for the root of a custom resource's schema.
pub fn run_rules() -> Vec<Value> {
    RUN.iter().map(|rule| rule.entry(&Value::Null)).collect()
}
