//! The schema's shape: small, bounded and structural, so that an API server takes it.

#![allow(clippy::expect_used)] // The helpers here are tests too.

use serde_json::{Value, json};
use simsiam_recipe::{Recipe, schema};

/// Calls `f` with every schema node and its path.
fn each(schema: &Value, path: &str, f: &mut impl FnMut(&str, &Value)) {
    f(path, schema);
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        each(schema, &format!("{path}/{key}"), f);
    }
    if schema["items"].is_object() {
        each(&schema["items"], &format!("{path}/0"), f);
    }
}

#[test]
fn every_string_list_and_map_is_bounded() {
    each(&schema(), "", &mut |path, node| match node["type"].as_str() {
        Some("string") => assert!(node["enum"].is_array() || node["maxLength"].is_u64(), "{path} may be of any length"),
        Some("array") => assert!(node["maxItems"].is_u64(), "{path} may have any number of entries"),
        Some("object") => {
            assert!(node["properties"].is_object(), "{path} may have any fields");
            assert!(node["additionalProperties"].is_null(), "{path} is a map");
        }
        Some("integer" | "number" | "boolean") => {}
        other => panic!("{path} has no plain type: {other:?}"),
    });
}

/// What Kubernetes' structural schemas may hold.
#[test]
fn schema_is_structural() {
    const KEYWORDS: &[&str] = &[
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "minItems",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    each(&schema(), "", &mut |path, node| {
        for key in node.as_object().expect("a schema").keys() {
            assert!(KEYWORDS.contains(&key.as_str()), "{path} has {key}");
        }
        if let Some(format) = node["format"].as_str() {
            assert_eq!((format, &node["type"]), ("double", &json!("number")), "{path}");
        }
    });
}

#[test]
fn schema_is_small() {
    let bytes = schema().to_string().len();
    assert!(bytes < 56_000, "{bytes} bytes");
}

#[test]
fn every_field_has_description() {
    each(&schema(), "", &mut |path, node| {
        let number_in_list = path.ends_with("/0") && node["type"] == "number";
        let text = node["description"].as_str().unwrap_or_default();
        assert!(number_in_list || !text.is_empty(), "{path}");
        for line in text.lines().skip(1) {
            assert!(line.starts_with("- "), "{path}: {line}");
        }
    });
}

/// An API server would write the default into the object and hide the preset's value.
#[test]
fn fields_of_presets_have_no_schema_default() {
    for section in ["pretrain", "linear"] {
        let schema = schema();
        each(&schema["properties"][section], section, &mut |path, node| {
            assert!(node["default"].is_null(), "{path} has a default");
        });
    }
    let schema = schema();
    assert_eq!(schema["properties"]["checkpoint"]["properties"]["keepLast"]["default"], 3);
    assert_eq!(schema["properties"]["knn"]["properties"]["batchSize"]["default"], 256);
    assert_eq!(schema["properties"]["dataset"]["properties"]["maxCorrupt"]["default"], 0);
}

/// The rules' bounds are narrower than the Rust types': out of range is answered by a rule, with the range.
#[test]
fn every_number_has_range_rule() {
    let valid = json!({
        "dataset": {"train": "a", "val": "b", "maxCorrupt": 1, "loaderThreads": 1, "channels": 3, "pack": {},
            "range": {"mode": "fixed", "low": 0, "high": 1}},
        "output": {"uri": "c"},
        "pretrain": {"augment": {"evalResize": 256, "secondView": {"blurProb": 1}}, "collapse": {"patienceSteps": 1}, "alternation": {"steps": 1},
            "projector": {"hiddenDim": 1}},
        "knn": {"protocols": [{"k": 1, "temperature": 1}]},
        "linear": {},
        "finetune": {},
        "report": {},
        "checkpoint": {"everySteps": 1},
    });
    let full = serde_json::to_value(Recipe::from_json(&valid).expect("valid")).expect("json");
    Recipe::from_json(&full).expect("valid in full");
    let mut seen = 0;
    each(&schema(), "", &mut |path, node| {
        let extremes: &[Value] = match node["type"].as_str() {
            Some("integer") => &[json!(-1), json!(i64::MIN), json!(u64::MAX)],
            Some("number") => &[json!(-1e300), json!(1e300)],
            _ => return,
        };
        seen += 1;
        for extreme in extremes {
            let mut bad = full.clone();
            let (parent, field) = path.rsplit_once('/').expect("a pointer");
            match bad.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is not in {full}")) {
                Value::Array(entries) => entries[field.parse::<usize>().expect("an index")] = extreme.clone(),
                object => object[field] = extreme.clone(),
            }
            let wrong = Recipe::from_json(&bad).expect_err(path);
            assert!(
                wrong.iter().any(|violation| violation.detail.starts_with("must ")),
                "{path}: {extreme}: {wrong:?}"
            );
            assert!(
                !wrong.iter().any(|violation| violation.detail.contains("could not be evaluated")),
                "{path}: {extreme}: {wrong:?}"
            );
        }
    });
    assert_eq!(seen, 79, "numbers in the schema");
}

/// An API server's type checker is stricter than the local evaluator: integers are compared with integers
/// and doubles with doubles.
#[test]
fn rules_compare_numbers_of_same_type() {
    each(&schema(), "", &mut |path, node| {
        let Some(rules) = node["x-kubernetes-validations"].as_array() else {
            return;
        };
        for rule in rules {
            let text = rule["rule"].as_str().expect("a rule");
            assert!(rule["message"].is_string() || rule["messageExpression"].is_string(), "{path}");
            assert!(!rule["message"].to_string().contains("\\n"), "{path}");
            for word in text.split([' ', '(', ')']).filter(|word| word.parse::<f64>().is_ok()) {
                match node["type"].as_str() {
                    // The one number in a rule on an object is a double's bound.
                    Some("object") if text.contains("maxScale") || text.contains("percentiles") => {
                        assert!(word.contains('.'));
                    }
                    // The channels are an integer; strengths and probabilities are doubles.
                    Some("object") if text.contains("dataset.channels") => {
                        assert!(matches!(word, "1" | "3" | "32" | "0.0"), "{text}");
                        assert!(word != "0.0" || text.ends_with("<= 0.0"), "{text}");
                    }
                    Some("number" | "array") => assert!(word.contains('.'), "{path}: {text}"),
                    _ => assert!(!word.contains('.'), "{path}: {text}"),
                }
            }
        }
    });
}

/// An API server treats the length of `string(…)` as unbounded, and refuses the whole definition for the cost
/// of a message that appends it; `format` costs only as much as its template is long.
#[test]
fn rule_messages_insert_values_by_format() {
    each(&schema(), "", &mut |path, node| {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let Some(text) = rule["messageExpression"].as_str() else {
                continue;
            };
            assert!(text.contains(".format(["), "{path}: {text}");
            assert!(!text.contains("string(") && !text.contains(" + "), "{path}: {text}");
        }
    });
}
