//! The rules: from facts to proposals, without side effects.
//!
//! `rule` is the shape of a rule. `views` has those about the views and the layers that see them, `steps` those about
//! optimiser steps, `contents` those about labels and copies, `loading` those about loading. Each rule sees the recipe with
//! what earlier rules proposed, so a later one counts the steps of the batch that an earlier one chose.

mod contents;
mod loading;
mod rule;
mod steps;
#[cfg(test)]
mod tests;
mod views;

use serde::Serialize;
use serde_json::Value;
use simsiam_recipe::Recipe;

pub use loading::cores_needed;
pub use rule::{Case, Rule};
pub use steps::bytes_per_rank;

use super::facts::Facts;
use crate::error::Error;

/// The rules that need no measurement, in the order in which they apply.
pub const OF_IMAGES: &[&[Rule]] = &[views::RULES, steps::RULES, contents::RULES];
/// The rules that use the rates measured with what the others proposed.
pub const OF_RATES: &[&[Rule]] = &[loading::RULES];

/// What a rule proposes for the run at hand.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// The rule.
    pub rule: &'static str,
    /// The fields that change; empty if only the user can act.
    pub changes: Vec<Change>,
    /// Why, with the figures.
    pub reason: String,
    /// Paper or page of docs.
    pub source: &'static str,
}

/// A new value of a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its path in `spec`.
    pub field: &'static str,
    /// Its value so far, with presets and defaults; null if it has none.
    pub present: Value,
    /// The value proposed.
    pub proposed: Value,
}

/// Applies rules one after the other: the recipe as proposed, and what was proposed.
///
/// # Errors
/// [`Error::Internal`] if a proposal is not a valid recipe: a defect of that rule.
pub fn apply(rules: &[&[Rule]], facts: &Facts, recipe: &Recipe) -> Result<(Recipe, Vec<Proposal>), Error> {
    let (mut recipe, mut proposals) = (recipe.clone(), Vec::new());
    for rule in rules.iter().copied().flatten() {
        let Some(pretrain) = &recipe.pretrain else { break };
        let Some(advice) = (rule.check)(&Case { facts, recipe: &recipe, pretrain }) else { continue };
        let mut spec = serde_json::to_value(&recipe).map_err(|e| Error::Internal(e.to_string()))?;
        let mut changes = Vec::new();
        for (field, proposed) in advice.changes {
            let present = set(&mut spec, field, proposed.clone());
            if present != proposed {
                changes.push(Change { field, present, proposed });
            }
        }
        recipe = Recipe::from_json(&spec).map_err(|violations| {
            let first = violations.first().map_or_else(String::new, ToString::to_string);
            Error::Internal(format!("rule {} proposes an invalid recipe: {first}", rule.name))
        })?;
        proposals.push(Proposal { rule: rule.name, changes, reason: advice.reason, source: rule.source });
    }
    Ok((recipe, proposals))
}

/// Sets a field of `spec`, and returns its value so far.
fn set(spec: &mut Value, field: &str, value: Value) -> Value {
    let mut place = spec;
    for key in field.split('.') {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[key];
    }
    std::mem::replace(place, value)
}
