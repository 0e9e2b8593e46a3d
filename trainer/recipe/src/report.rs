//! What the report contains.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// The HTML report: curves, augmented views, nearest neighbours, a projection of the features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = schema::plain, transform = rules::report)]
pub struct Report {
    /// Number of training images shown with their two views.
    pub views: u32,
    /// Number of validation images shown with their nearest neighbours.
    pub queries: u32,
    /// Number of training images that are searched for neighbours, evenly spaced over the set.
    pub bank: u32,
    /// Number of images in the projection.
    pub points: u32,
}

impl Default for Report {
    fn default() -> Self {
        Self { views: 9, queries: 8, bank: 5000, points: 1000 }
    }
}
