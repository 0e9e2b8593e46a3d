//! What the report shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// A page about the run: curves, augmented views, nearest neighbours, a projection of the features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::report)]
pub struct Report {
    /// Training images shown with their two views.
    pub views: u32,
    /// Validation images shown with their nearest neighbours.
    pub queries: u32,
    /// Training images among which neighbours are looked for, spread over all.
    pub bank: u32,
    /// Images in the projection.
    pub points: u32,
}

impl Default for Report {
    fn default() -> Self {
        Self { views: 9, queries: 8, bank: 5000, points: 1000 }
    }
}
