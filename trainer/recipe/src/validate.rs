//! Validates a recipe in JSON: shape, presets, defaults, rules, types, in this order.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::channels::with_channels;
use crate::error::{Violation, ViolationKind};
use crate::evaluation::{Finetune, Knn, Linear};
use crate::presets::{merged, with_augment_preset, with_linear_preset, with_pretrain_preset};
use crate::pretrain::Pretrain;
use crate::recipe::{CheckpointPolicy, Recipe};
use crate::recipe_schema;
use crate::report::Report;
use crate::rule_engine::broken_rules;
use crate::shape::Shape;

impl Recipe {
    /// Reads the training part of a run's `spec`; fields of the cluster must have been taken out.
    ///
    /// # Errors
    /// Every violation, with paths that begin at `spec`.
    pub fn from_json(spec: &Value) -> Result<Self, Vec<Violation>> {
        read(spec, &[])
    }

    /// Evaluates every rule; for recipes that were changed or built by code.
    ///
    /// # Errors
    /// Every violated rule.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let json = serde_json::to_value(self).unwrap_or_default();
        read(&json, &[]).map(|_| ())
    }
}

/// Checks a value that is given outside of a run file, as a command-line option is, by the rules of the field at `path`
/// in `spec`, such as `dataset.endpoint`.
///
/// # Errors
/// What the value must be, in the words of the file's validation.
pub fn check_field(path: &str, value: &Value) -> Result<(), String> {
    let root = recipe_schema::cached();
    let schema = path.split('.').try_fold(root, |schema, key| schema["properties"].get(key));
    let schema = schema.ok_or_else(|| format!("there is no field spec.{path}"))?;
    let broken = broken_rules(schema, value, path, false);
    broken.into_iter().next().map_or(Ok(()), |violation| Err(violation.detail))
}

/// Reads `spec`; `more_names` are fields at its top level that are known but not part of a recipe.
pub(crate) fn read(spec: &Value, more_names: &[&str]) -> Result<Recipe, Vec<Violation>> {
    let mut shape =
        Shape { root: recipe_schema::cached(), root_path: "spec", more_at_top: more_names, violations: Vec::new() };
    let clean = with_channels(shape.clean(recipe_schema::cached(), spec, "spec").unwrap_or_default());
    let mut violations = shape.violations;
    if violations.is_empty() {
        let filled = filled(clean.clone());
        violations = broken_rules(recipe_schema::cached(), &filled, "spec", false);
        for violation in &mut violations {
            note_origin(violation, &clean, &filled);
        }
    } else {
        // Fields of the wrong shape were removed, and a default in their place would mislead.
        let mut more = broken_rules(recipe_schema::cached(), &clean, "spec", true);
        more.retain(|violation| violation.kind != ViolationKind::Required || at(spec, &violation.path).is_none());
        violations.extend(more);
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    Recipe::deserialize(&clean).map_err(|error| {
        vec![Violation {
            path: "spec".to_owned(),
            kind: ViolationKind::Invalid(clean),
            detail: error.to_string(),
            place: None,
        }]
    })
}

/// `spec` with presets and defaults filled in, as the rules see it.
fn filled(mut spec: Value) -> Value {
    let over = |value: Value, default: Result<Value, _>| match default {
        Ok::<_, serde_json::Error>(default) => merged(value, default),
        Err(_) => value,
    };
    if let Some(fields) = spec.as_object_mut() {
        if let Some(value) = fields.remove("pretrain") {
            let default = serde_json::to_value(Pretrain::default());
            let value = over(with_pretrain_preset(value), default);
            fields.insert("pretrain".into(), value);
        }
        if let Some(value) = fields.remove("linear") {
            let default = serde_json::to_value(Linear::default());
            let value = over(with_linear_preset(value), default);
            fields.insert("linear".into(), value);
        }
        if let Some(value) = fields.remove("knn") {
            let default = serde_json::to_value(Knn::default());
            fields.insert("knn".into(), over(value, default));
        }
        if let Some(value) = fields.remove("finetune") {
            let default = serde_json::to_value(Finetune::default());
            fields.insert("finetune".into(), over(value, default));
        }
        if let Some(value) = fields.remove("report") {
            let default = serde_json::to_value(Report::default());
            fields.insert("report".into(), over(value, default));
        }
        let value = fields.remove("checkpoint").unwrap_or_else(|| json!({}));
        let default = serde_json::to_value(CheckpointPolicy::default());
        fields.insert("checkpoint".into(), over(value, default));
    }
    spec
}

/// Notes in a violation that the value comes from a preset or a default.
fn note_origin(violation: &mut Violation, written: &Value, filled: &Value) {
    if violation.kind == ViolationKind::Required || at(written, &violation.path).is_some() {
        return;
    }
    let section = violation.path.split('.').nth(1).unwrap_or_default();
    // The preset named at `name`, if it brings the value.
    let brought_by = |name: &str, with_preset: fn(Value) -> Value| {
        let brings = at(&json!({section: with_preset(written[section].clone())}), &violation.path).is_some();
        filled[section].pointer(name).and_then(Value::as_str).filter(|_| brings)
    };
    let brought = match section {
        "pretrain" => {
            brought_by("/augment/preset", with_augment_preset).or_else(|| brought_by("/preset", with_pretrain_preset))
        }
        "linear" => brought_by("/preset", with_linear_preset),
        _ => None,
    };
    let note = match brought {
        Some(preset) => format!(" (from preset {preset})"),
        None => " (the default)".to_owned(),
    };
    violation.detail.push_str(&note);
}

/// The value at a path that begins with `spec`.
fn at<'a>(spec: &'a Value, path: &str) -> Option<&'a Value> {
    path.split(['.', '[', ']']).skip(1).filter(|key| !key.is_empty()).try_fold(spec, |value, key| match value {
        Value::Array(entries) => entries.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_outside_of_a_file_is_checked_by_the_fields_rules() {
        let check = |path, value: &str| check_field(path, &json!(value));
        assert_eq!(check("dataset.endpoint", "https://host:9000"), Ok(()));
        let error = check("dataset.endpoint", "host:9000").unwrap_err();
        assert!(error.contains("must be http://host:port or https://host:port"), "{error}");
        assert!(check("output.endpoint", "host:9000").is_err() && check("output.region", "eu west").is_err());
        assert!(check("dataset.imageKey", ".jpg").is_err() && check("dataset.imageKey", "left.jpg").is_ok());
        assert!(check("dataset.nothing", "x").is_err());
    }
}
