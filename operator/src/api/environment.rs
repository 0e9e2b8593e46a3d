//! Environment variables of the trainer: `workers.env`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simsiam_recipe::rules::{Rule, attach};
use simsiam_recipe::schema;

/// An environment variable: give either its value or its source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain, transform = env_rules)]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Value of the variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Source of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// The source of an environment variable's value: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = source_rules)]
pub struct EnvSource {
    /// A key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// A key of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
    /// A field of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldReference>,
}

/// A key of a Secret or ConfigMap of the run's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain)]
pub struct KeyReference {
    /// The object's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(max = 253))]
    pub key: String,
    /// Leave the variable unset if the object or key is missing. Default: the pods do not start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A field of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::plain)]
pub struct FieldReference {
    /// Path of the field, such as status.hostIP.
    #[schemars(length(max = 253))]
    pub field_path: String,
}

const ENV: &[Rule] = &[
    Rule::on("name", "self.matches('^[^=]+$')", "must be the name of an environment variable"),
    Rule::needs(".value", "has(self.value) != has(self.valueFrom)", "give either value or valueFrom"),
];

const SOURCE: &[Rule] = &[Rule::needs(
    ".secretKeyRef",
    "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(given, given).size() == 1",
    "give one of secretKeyRef, configMapKeyRef and fieldRef",
)];

fn env_rules(schema: &mut schemars::Schema) {
    attach(schema, ENV);
}

fn source_rules(schema: &mut schemars::Schema) {
    attach(schema, SOURCE);
}
