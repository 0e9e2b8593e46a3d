//! The JSON schema of the whole recipe.

use std::sync::LazyLock;

use serde_json::Value;

use crate::recipe::Recipe;
use crate::schema::of;

/// The JSON schema of [`Recipe`]: types, descriptions, defaults outside presets' reach, and every rule as
/// `x-kubernetes-validations`. The custom resource's `spec` embeds the same types,
/// so it has the same schema.
pub fn schema() -> Value {
    SCHEMA.clone()
}

pub(crate) fn cached() -> &'static Value {
    &SCHEMA
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| of::<Recipe>().to_value());
