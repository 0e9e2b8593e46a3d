//! The rules of a schema, evaluated against a value as an API server does.

use std::collections::HashMap;
use std::sync::Arc;

use cel::extractors::This;
use cel::objects::{Key, Map as CelMap};
use cel::{Context, Program};
use serde_json::Value;

use crate::error::{Violation, ViolationKind};
use crate::yaml::child;

/// The rules in `schema` that `value` violates. With `misshapen`, the value's shape is known to be wrong, and a rule that
/// cannot be evaluated is skipped.
pub(crate) fn broken_rules(schema: &Value, value: &Value, path: &str, misshapen: bool) -> Vec<Violation> {
    let mut broken = Vec::new();
    walk(schema, value, path, misshapen, &mut broken);
    broken
}

fn walk(schema: &Value, value: &Value, path: &str, misshapen: bool, broken: &mut Vec<Violation>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Some(schema) = schema["properties"].get(key) {
                    walk(schema, value, &child(path, key), misshapen, broken);
                }
            }
        }
        Value::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                let path = format!("{path}[{index}]");
                walk(&schema["items"], entry, &path, misshapen, broken);
            }
        }
        _ => {}
    }
    let rules = schema["x-kubernetes-validations"].as_array();
    if rules.is_none_or(Vec::is_empty) {
        return;
    }
    let context = context(schema, value);
    for rule in rules.into_iter().flatten() {
        match evaluate(&rule["rule"], &context) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(cel::Value::Bool(false)) => broken.push(violation(rule, value, path, &context)),
            _ if misshapen => {}
            Ok(other) => broken.push(unusable(rule, path, &format!("{other:?}"))),
            Err(error) => broken.push(unusable(rule, path, &error)),
        }
    }
}

fn violation(rule: &Value, value: &Value, path: &str, context: &Context) -> Violation {
    let field_path = rule["fieldPath"].as_str().unwrap_or_default();
    let value = field_path.split('.').skip(1).try_fold(value, |value, key| value.get(key)).cloned().unwrap_or_default();
    let detail = match rule["message"].as_str() {
        Some(text) => text.to_owned(),
        None => {
            let text = match evaluate(&rule["messageExpression"], context) {
                Ok(cel::Value::String(text)) => text.to_string(),
                // As an API server does when the message cannot be computed.
                _ => format!("failed rule: {}", rule["rule"]),
            };
            without_value(&text, &value)
        }
    };
    Violation {
        path: format!("{path}{field_path}"),
        kind: if rule["reason"] == "FieldValueRequired" {
            ViolationKind::Required
        } else {
            ViolationKind::Invalid(value)
        },
        detail,
        place: None,
    }
}

/// A computed message names the value, since API servers print only its type; here the value is printed
/// after the path already.
fn without_value(text: &str, value: &Value) -> String {
    let value = match value {
        Value::String(value) => value.clone(),
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        other => other.to_string(),
    };
    text.strip_suffix(&format!(", not {value}")).unwrap_or(text).to_owned()
}

/// A rule that is itself invalid; the tests rule this out.
fn unusable(rule: &Value, path: &str, why: &str) -> Violation {
    Violation {
        path: path.to_owned(),
        kind: ViolationKind::Invalid(Value::Null),
        detail: format!("the rule {} could not be evaluated: {why}", rule["rule"]),
        place: None,
    }
}

/// What an expression may use: `self`, CEL's own functions, and the one of Kubernetes' that our messages need.
fn context(schema: &Value, value: &Value) -> Context<'static, 'static> {
    let mut context = Context::default();
    context.add_variable_from_value("self", cel_value(schema, value));
    // Refused only if CEL brings a `format` of its own, which then serves as well.
    let _ = context.add_function("format", format);
    context
}

/// `'…%s…'.format([…])` of Kubernetes' CEL, for `%s` alone.
fn format(This(text): This<Arc<String>>, values: Arc<Vec<cel::Value>>) -> Arc<String> {
    let mut parts = text.split("%s");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for (part, value) in parts.zip(values.iter()) {
        match value {
            cel::Value::Int(value) => whole.push_str(&value.to_string()),
            cel::Value::Float(value) => whole.push_str(&value.to_string()),
            cel::Value::String(value) => whole.push_str(value),
            other => whole.push_str(&format!("{other:?}")),
        }
        whole.push_str(part);
    }
    Arc::new(whole)
}

fn evaluate(expression: &Value, context: &Context) -> Result<cel::Value, String> {
    let text = expression.as_str().unwrap_or_default();
    let program = Program::compile(text).map_err(|error| error.to_string())?;
    program.execute(context).map_err(|error| error.to_string())
}

/// Converts a value as an API server does: by the schema's type, so that `lr: 1` is a double.
fn cel_value(schema: &Value, value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => {
            if schema["type"] == "number" {
                return cel::Value::Float(number.as_f64().unwrap_or(f64::NAN));
            }
            // What exceeds CEL's int exceeds every bound as much as the largest int does.
            match number.as_i64() {
                Some(int) => cel::Value::Int(int),
                None if number.is_u64() => cel::Value::Int(i64::MAX),
                None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            }
        }
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(entries) => {
            let entries = entries.iter().map(|entry| cel_value(&schema["items"], entry));
            cel::Value::List(Arc::new(entries.collect()))
        }
        Value::Object(fields) => {
            let fields: HashMap<Key, cel::Value> = fields
                .iter()
                .map(|(key, value)| {
                    let value = cel_value(&schema["properties"][key], value);
                    (Key::String(Arc::new(key.clone())), value)
                })
                .collect();
            cel::Value::Map(CelMap::from(fields))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe_schema;

    /// Evaluates the rules of every object with each single field alone, and with none: what an API server
    /// may be given. A rule without its `has()` fails to evaluate.
    fn partial_objects(schema: &Value, path: &str, seen: &mut usize) {
        if let Some(properties) = schema["properties"].as_object() {
            let mut bare = json!({});
            for key in schema["required"].as_array().into_iter().flatten() {
                let key = key.as_str().expect("a name");
                bare[key] = sample(&properties[key]);
            }
            let alone = properties.iter().map(|(key, schema)| {
                let mut object = bare.clone();
                object[key] = sample(schema);
                object
            });
            for object in alone.chain([bare.clone()]) {
                *seen += 1;
                for broken in broken_rules(schema, &object, path, false) {
                    let detail = broken.detail;
                    assert!(!detail.contains("could not be evaluated"), "{object}: {detail}");
                }
            }
            for (key, schema) in properties {
                partial_objects(schema, &child(path, key), seen);
            }
        }
        if schema["items"].is_object() {
            partial_objects(&schema["items"], path, seen);
        }
    }

    /// Some value of a schema's type.
    fn sample(schema: &Value) -> Value {
        match schema["type"].as_str() {
            Some("integer") => json!(7),
            Some("number") => json!(0.5),
            Some("boolean") => json!(true),
            Some("string") => schema["enum"].get(0).cloned().unwrap_or(json!("x")),
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0);
                (0..least).map(|_| sample(&schema["items"])).collect()
            }
            _ => json!({}),
        }
    }

    #[test]
    fn rules_on_partial_objects_evaluate() {
        let mut seen = 0;
        partial_objects(recipe_schema::cached(), "spec", &mut seen);
        assert!(seen > 60, "{seen}");
    }

    #[test]
    fn rule_without_has_is_reported() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.a <= self.b", "message": "m"}],
        });
        let broken = broken_rules(&schema, &json!({"a": 1}), "x", false);
        assert!(broken[0].detail.contains("could not be evaluated"), "{broken:?}");
        assert_eq!(broken_rules(&schema, &json!({"a": 1}), "x", true), []);
    }

    /// API servers print only a value's type; the message they are given names the value.
    #[test]
    fn message_for_api_server_contains_value() {
        let rule = &recipe_schema::cached()["properties"]["pretrain"]["properties"]["batchSize"]["x-kubernetes-validations"]
            [0];
        let context = context(&json!({"type": "integer"}), &json!(0));
        let text = evaluate(&rule["messageExpression"], &context);
        let expected = "must be between 2 and 1048576, not 0";
        assert_eq!(text, Ok(cel::Value::String(Arc::new(expected.to_owned()))));
        assert_eq!(rule["message"], "must be between 2 and 1048576");
    }

    /// Every computed message can be computed, wherever its rule is broken.
    #[test]
    fn every_message_expression_evaluates() {
        fn all(schema: &Value) {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let Some(text) = rule["messageExpression"].as_str() else {
                    continue;
                };
                let mut object = json!({});
                for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                    object[key] = sample(schema);
                }
                let value = if schema["type"] == "object" { object } else { sample(schema) };
                let context = context(schema, &value);
                let message = evaluate(&rule["messageExpression"], &context);
                assert!(matches!(message, Ok(cel::Value::String(_))), "{text}: {message:?}");
            }
            for schema in schema["properties"].as_object().into_iter().flat_map(|p| p.values()) {
                all(schema);
            }
            if schema["items"].is_object() {
                all(&schema["items"]);
            }
        }
        all(recipe_schema::cached());
    }

    /// `lr: 1` is a double for a rule, as on an API server.
    #[test]
    fn number_takes_type_of_schema() {
        // Compared as text, since CEL's 1 equals its 1.0.
        let shown = |schema: Value, value: Value| format!("{:?}", cel_value(&schema, &value));
        let list = json!({"type": "array", "items": {"type": "number"}});
        assert_eq!(shown(json!({"type": "number"}), json!(1)), "Float(1.0)");
        assert_eq!(shown(list, json!([1])), "List([Float(1.0)])");
        assert_eq!(shown(json!({"type": "integer"}), json!(1)), "Int(1)");
    }

    #[test]
    fn format_inserts_values() {
        let context = context(&json!({"type": "number"}), &json!(0.5));
        let text = evaluate(&json!("'a %s, b %s, c %s'.format([self, 2, 'x'])"), &context);
        assert_eq!(text, Ok(cel::Value::String(Arc::new("a 0.5, b 2, c x".to_owned()))));
    }
}
