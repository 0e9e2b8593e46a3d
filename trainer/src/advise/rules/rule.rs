//! What a rule is, and what it sees.

use serde_json::Value;
use simsiam_recipe::{Pretrain, Recipe};

use super::super::facts::Facts;

/// A rule: a pure function from facts and recipe to advice.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name in the output and in docs/advise.md.
    pub name: &'static str,
    /// The paper's section, or the page of docs, that it is based on.
    pub source: &'static str,
    /// The advice, if the rule applies.
    pub check: fn(&Case) -> Option<Advice>,
}

/// What a rule sees.
pub struct Case<'a> {
    /// What was found.
    pub facts: &'a Facts,
    /// The recipe with what earlier rules proposed.
    pub recipe: &'a Recipe,
    /// Its pre-training.
    pub pretrain: &'a Pretrain,
}

/// What a rule proposes.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// New values, by the field's path in `spec`; empty if only the user can act.
    pub changes: Vec<(&'static str, Value)>,
    /// Why, with the figures.
    pub reason: String,
}

impl Advice {
    /// A new value of one field.
    pub fn one(field: &'static str, value: impl Into<Value>, reason: String) -> Option<Self> {
        Self::several(vec![(field, value.into())], reason)
    }

    /// New values of several fields.
    pub fn several(changes: Vec<(&'static str, Value)>, reason: String) -> Option<Self> {
        Some(Self { changes, reason })
    }

    /// Something that only the user can do.
    pub fn note(reason: String) -> Option<Self> {
        Self::several(Vec::new(), reason)
    }
}

impl Case<'_> {
    /// Whether the run starts from weights that exist: their stem and normalisation are given.
    pub fn has_weights(&self) -> bool {
        self.recipe.weights.is_some()
    }
}

/// `part` of `whole` in percent, with one digit.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
