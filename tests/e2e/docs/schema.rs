//! What a value may be by a JSON schema: the definition of SimSiamRun in `crds/`, and the values of the charts.

use std::fs;
use std::sync::OnceLock;

use serde_json::{Value, json};
use simsiam_tests::root;

/// The resource's definition.
pub fn definition() -> &'static Value {
    static DEFINITION: OnceLock<Value> = OnceLock::new();
    DEFINITION.get_or_init(|| {
        let file = fs::read_to_string(root().join("crds/simsiamruns.simsiam.dev.yaml")).unwrap();
        serde_saphyr::from_str(&file).unwrap()
    })
}

/// The schema of a SimSiamRun, with what every object has.
pub fn run() -> &'static Value {
    static RUN: OnceLock<Value> = OnceLock::new();
    RUN.get_or_init(|| {
        let mut schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        assert!(schema["properties"]["spec"]["properties"].is_object(), "the definition has another form");
        for name in ["apiVersion", "kind", "metadata"] {
            schema["properties"][name] = Value::Null;
        }
        schema
    })
}

/// The schema of a run's `spec`.
pub fn spec() -> &'static Value {
    &run()["properties"]["spec"]
}

/// The schema of a chart's values; it has the names of `values.yaml`, as the test `charts` sees to. `None`: no such chart.
pub fn values(chart: &str) -> Option<Value> {
    let file = fs::read_to_string(root().join(format!("charts/{chart}/values.schema.json"))).ok()?;
    Some(serde_json::from_str(&file).unwrap())
}

/// Returns the schema of a field; null if anything is allowed, `None` if there is no such field.
pub fn field<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    static ANYTHING: Value = Value::Null;
    let (named, others) = (&schema["properties"], &schema["additionalProperties"]);
    match (named.get(name), others) {
        (Some(field), _) => Some(field),
        (None, Value::Object(_)) => Some(others),
        (None, Value::Bool(open)) => open.then_some(&ANYTHING),
        (None, _) => (!named.is_object()).then_some(&ANYTHING),
    }
}

/// Returns the schema at a path such as `status.conditions[0].type`; the error names the missing part.
pub fn at<'a>(schema: &'a Value, path: &str) -> Result<&'a Value, String> {
    let mut here = schema;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (name, index) = part.split_once('[').map_or((part, false), |(name, _)| (name, true));
        here = field(here, name).ok_or_else(|| unknown(here, path, name))?;
        here = if index && !here.is_null() { &here["items"] } else { here };
    }
    Ok(here)
}

fn unknown(schema: &Value, place: &str, name: &str) -> String {
    let known = schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str));
    format!("{place}: found `{name}`, expected one of {}", known.collect::<Vec<_>>().join(", "))
}

/// Returns what is wrong with a value: names, types and choices; `place` is its path.
pub fn faults(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let types = match &schema["type"] {
        Value::Array(several) => several.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    if !types.is_empty() && !types.iter().any(|kind| is_of(value, kind)) {
        return vec![format!("{place}: found {value}, expected {}", json!(types))];
    }
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        return vec![format!("{place}: found {value}, expected one of {}", schema["enum"])];
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, inner)| {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                field(schema, name).map_or_else(|| vec![unknown(schema, &place, name)], |s| faults(s, inner, &place))
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| faults(&schema["items"], item, &format!("{place}[{index}]")))
            .collect(),
        _ => Vec::new(),
    }
}

/// Null is of every type: in values it leaves a default out.
fn is_of(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap_or_default() {
        "object" => value.is_object() || value.is_null(),
        "array" => value.is_array() || value.is_null(),
        "string" => value.is_string() || value.is_null(),
        "boolean" => value.is_boolean() || value.is_null(),
        "integer" => value.is_i64() || value.is_u64() || value.is_null(),
        "number" => value.is_number() || value.is_null(),
        other => panic!("the type {other} in a schema"),
    }
}

/// What is wrong with `key.of.a.field=value`, as `--set` takes it; the value is YAML, or Helm's list `{a,b}`.
pub fn setting_faults(schema: &Value, setting: &str) -> Vec<String> {
    let Some((path, value)) = setting.split_once('=') else {
        return vec![format!("found `{setting}`, expected `field=value`")];
    };
    let list = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|inner| !inner.contains(':'));
    let value = list.map_or_else(|| value.to_owned(), |inner| format!("[{inner}]"));
    let mut whole = match serde_saphyr::from_str(&value) {
        Ok(value) if !crate::shell::is_placeholder(setting) => value,
        _ => Value::Null,
    };
    // A dot in a name is written `\.`.
    for part in path.replace("\\.", "\0").rsplit('.') {
        let (name, index) = part.split_once('[').map_or((part, false), |(name, _)| (name, true));
        whole = if index { json!([whole]) } else { whole };
        whole = json!({name.replace('\0', "."): whole});
    }
    faults(schema, &whole, "")
}
