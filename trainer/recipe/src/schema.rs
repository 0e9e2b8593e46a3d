//! Shapes JSON schemas into what Kubernetes calls structural: everything inline, one `type` per value, no `oneOf` and no
//! `null`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The inlined schema of one type.
pub fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    schema.remove("title");
    schema
}

/// Shapes an object's schema: absent instead of `null`, no `additionalProperties: false` (API servers do not
/// allow it; they refuse or drop unknown fields by themselves), and integers without the format and bounds of
/// the Rust type. The bounds are rules, so that a value out of range is answered in one way, with the range.
pub fn plain(schema: &mut Schema) {
    schema.remove("additionalProperties");
    if let Some(object) = schema.as_object_mut() {
        describe(object);
    }
    for property in properties(schema) {
        if let Some(property) = property.as_object_mut() {
            without_null(property);
            if let Some(Value::Object(items)) = property.get_mut("items") {
                describe(items);
            }
            describe(property);
            if property.get("type") == Some(&json!("integer")) {
                property.remove("minimum");
                property.remove("maximum");
                property.remove("format");
            }
            if property.get("default") == Some(&Value::Null) {
                property.remove("default");
            }
        }
    }
}

/// As [`plain`], and without defaults: an API server writes a schema's defaults into the object, after
/// which a preset could no longer be merged underneath the user's fields. The descriptions name the default.
pub(crate) fn under_preset(schema: &mut Schema) {
    plain(schema);
    for property in properties(schema) {
        if let Some(property) = property.as_object_mut() {
            property.remove("default");
        }
    }
}

/// Shapes an enum's schema: one list of names. The variants' descriptions wait under a key of their own until
/// [`plain`] appends them to the description of the field, which replaces the type's.
pub fn plain_enum(schema: &mut Schema) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else {
        return;
    };
    let mut names = Vec::new();
    let mut lines = Vec::new();
    for variant in &variants {
        if let Some(Value::Array(several)) = variant.get("enum") {
            names.extend(several.iter().cloned());
        }
        if let Some(name) = variant.get("const") {
            names.push(name.clone());
            if let (Some(name), Some(text)) = (name.as_str(), variant.get("description")) {
                let text = text.as_str().unwrap_or_default();
                lines.push(format!("- {name}: {}", unwrapped(text)));
            }
        }
    }
    schema.insert("type".into(), json!("string"));
    schema.insert("enum".into(), Value::Array(names));
    if !lines.is_empty() {
        schema.insert(VARIANTS.into(), json!(lines.join("\n")));
    }
}

const VARIANTS: &str = "x-variants";

/// Makes a description that `kubectl explain` shows well: one paragraph, then the variants of an enum.
fn describe(schema: &mut Map<String, Value>) {
    let variants = schema.remove(VARIANTS);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let mut whole = unwrapped(text);
        if let Some(Value::String(variants)) = variants {
            whole.push('\n');
            whole.push_str(&variants);
        } else if text.contains("\n- ") {
            return; // Described already.
        }
        *text = whole;
    }
}

/// Without the line breaks of the source code.
fn unwrapped(text: &str) -> String {
    text.replace('\n', " ")
}

fn properties(schema: &mut Schema) -> impl Iterator<Item = &mut Value> {
    schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
}

/// Takes the `null` that `Option` brings out of a property's schema.
fn without_null(property: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            property.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(names)) = property.get_mut("enum") {
        names.retain(|name| !name.is_null());
    }
    if let Some(Value::Array(choices)) = property.remove("anyOf") {
        for choice in choices {
            if let Value::Object(choice) = choice
                && choice.get("type") != Some(&json!("null"))
            {
                // The field's own description is the more specific one.
                for (key, value) in choice {
                    property.entry(key).or_insert(value);
                }
            }
        }
    }
}
