//! Checks the shape of a value against its schema: unknown, missing and mistyped fields, unsupported names, lengths.
//!
//! An API server checks the same schema in the same way before it evaluates the rules; here every violation is
//! collected, with a suggestion.

use serde_json::{Map, Value};

use crate::error::{Violation, ViolationKind};
use crate::yaml::child;

/// Collects what is wrong with the shape of values.
pub(crate) struct Shape<'a> {
    /// The schema of the whole, where names that are unknown in one place are looked for elsewhere.
    pub root: &'a Value,
    /// The path of the whole.
    pub root_path: &'a str,
    /// Known names at the top that `root` does not have.
    pub more_at_top: &'a [&'a str],
    pub violations: Vec<Violation>,
}

impl Shape<'_> {
    /// Returns the parts of `value` that have the right shape; adds the violations of the others.
    pub fn clean(&mut self, schema: &Value, value: &Value, path: &str) -> Option<Value> {
        let expected = schema["type"].as_str().unwrap_or_default();
        if !has_type(value, expected) {
            self.add(path, ViolationKind::Invalid(value.clone()), type_detail(expected, value));
            return None;
        }
        match value {
            Value::Object(fields) => Some(Value::Object(self.object(schema, fields, path))),
            Value::Array(entries) => self.list(schema, entries, path),
            Value::String(text) => self.text(schema, text, path),
            scalar => Some(scalar.clone()),
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) -> Map<String, Value> {
        let mut kept = Map::new();
        for (key, value) in fields {
            let path = child(path, key);
            match schema["properties"].get(key) {
                Some(schema) => {
                    if let Some(value) = self.clean(schema, value, &path) {
                        kept.insert(key.clone(), value);
                    }
                }
                None => {
                    let detail = self.suggestion(schema, key, &path);
                    self.add(&path, ViolationKind::Unknown, detail);
                }
            }
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            let key = key.as_str().unwrap_or_default();
            if !fields.contains_key(key) {
                self.add(&child(path, key), ViolationKind::Required, String::new());
            }
        }
        kept
    }

    fn list(&mut self, schema: &Value, entries: &[Value], path: &str) -> Option<Value> {
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let found = entries.len() as u64;
        if found < least || found > most {
            let wanted = match (least, most) {
                (least, most) if least == most => format!("{least}"),
                (least, u64::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            let detail = format!("must have {wanted} entries, not {found}");
            self.add(path, ViolationKind::Invalid(entries.into()), detail);
            return None;
        }
        let is_set = schema["x-kubernetes-list-type"] == "set";
        let mut whole = true;
        let mut kept = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if is_set && entries[..index].contains(entry) {
                self.add(&path, ViolationKind::Duplicate(entry.clone()), String::new());
                whole = false;
            }
            match self.clean(&schema["items"], entry, &path) {
                Some(entry) => kept.push(entry),
                None => whole = false,
            }
        }
        whole.then_some(Value::Array(kept))
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) -> Option<Value> {
        if let Some(names) = schema["enum"].as_array()
            && !names.iter().any(|name| name == text)
        {
            let quoted: Vec<_> = names.iter().map(Value::to_string).collect();
            let mut detail = format!("supported values: {}", quoted.join(", "));
            let names = names.iter().filter_map(Value::as_str);
            if let Some(name) = nearest(text, names) {
                detail.push_str(&format!("; did you mean {name:?}?"));
            }
            self.add(path, ViolationKind::Unsupported(text.into()), detail);
            return None;
        }
        let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
        let found = text.chars().count() as u64;
        if found > most {
            let detail = format!("must be at most {most} characters, not {found}");
            self.add(path, ViolationKind::Invalid(text.into()), detail);
            return None;
        }
        Some(text.into())
    }

    fn suggestion(&self, schema: &Value, key: &str, path: &str) -> String {
        let here = names(schema);
        let at_top = path == child(self.root_path, key);
        let more = if at_top { self.more_at_top } else { &[] };
        if let Some(name) = nearest(key, here.iter().copied().chain(more.iter().copied())) {
            return format!("did you mean {name:?}?");
        }
        let alias = ALIASES.iter().find(|(alias, _)| *alias == normal(key));
        if let Some((_, name)) = alias.filter(|(_, name)| here.contains(name)) {
            return format!("did you mean {name:?}?");
        }
        let mut elsewhere = Vec::new();
        find(self.root, self.root_path, &normal(key), &mut elsewhere);
        if !elsewhere.is_empty() {
            return format!("did you mean {}?", elsewhere.join(" or "));
        }
        let known: Vec<_> = here.iter().chain(more).copied().collect();
        format!("known fields: {}", known.join(", "))
    }

    fn add(&mut self, path: &str, kind: ViolationKind, detail: String) {
        self.violations.push(Violation { path: path.to_owned(), kind, detail, place: None });
    }
}

/// What other programs call some fields, normalised.
const ALIASES: &[(&str, &str)] = &[
    ("backbone", "arch"),
    ("batch", "batchSize"),
    ("bs", "batchSize"),
    ("learningrate", "lr"),
    ("model", "arch"),
    ("temp", "temperature"),
    ("wd", "weightDecay"),
];

fn has_type(value: &Value, expected: &str) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_detail(expected: &str, value: &Value) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut detail = format!("must be of type {expected}, not {found}");
    match (expected, value) {
        ("integer" | "number", Value::String(text)) if text.parse::<f64>().is_ok() => {
            detail.push_str(": leave out the quotes");
        }
        ("string", Value::Number(_) | Value::Bool(_)) => detail.push_str(": put it in quotes"),
        ("boolean", _) => detail.push_str(": write true or false"),
        _ => {}
    }
    detail
}

fn names(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect()
}

/// Collects the paths under `schema` of fields of this name.
fn find(schema: &Value, path: &str, name: &str, found: &mut Vec<String>) {
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = child(path, key);
        find(schema, &path, name, found);
        find(&schema["items"], &format!("{path}[]"), name, found);
        if normal(key) == name {
            found.push(path);
        }
    }
}

/// The one of `names` that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = normal(text);
    // One slip in four characters, so that a word is not mistaken for another short one.
    let limit = (text.chars().count() / 4).max(1);
    names
        .map(|name| (strsim::damerau_levenshtein(&text, &normal(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Without case and separators: `batch_size` is `batchSize` is `batch-size`.
fn normal(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
