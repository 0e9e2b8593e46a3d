//! The JSON schema of the whole recipe, and its defaults.

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

/// Removes the fields of a recipe in JSON that have the schema's default.
///
/// An API server writes all defaults into the objects that it stores. Without them, a document has no field that its
/// author did not need, and an older program that does not know the newest fields can still read it.
pub fn without_defaults(recipe: &mut Value) {
    prune(recipe, &SCHEMA);
}

fn prune(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => fields.retain(|name, field| {
            let schema = &schema["properties"][name];
            prune(field, schema);
            !schema.get("default").is_some_and(|default| {
                let mut default = default.clone();
                prune(&mut default, schema);
                same(field, &default)
            })
        }),
        Value::Array(entries) => entries.iter_mut().for_each(|entry| prune(entry, &schema["items"])),
        _ => {}
    }
}

/// Whether two values are equal; API servers return 1 for 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

pub(crate) fn cached() -> &'static Value {
    &SCHEMA
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| of::<Recipe>().to_value());
