//! The stages that a run goes through.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::Recipe;
use crate::schema;

/// A stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::plain_enum)]
pub enum Stage {
    /// Packs the images into shards.
    Prepare,
    /// Trains the encoder.
    Pretrain,
    /// Evaluates its features, and those of the untrained encoder, by k nearest neighbours.
    Knn,
    /// Evaluates them by a linear classifier.
    Linear,
    /// Fine-tunes the whole network with labels.
    Finetune,
    /// Writes the weights in other programs' formats.
    Export,
    /// Writes the HTML report.
    Report,
}

impl Stage {
    /// Every stage, in the order of a run.
    pub const ALL: [Self; 7] =
        [Self::Prepare, Self::Pretrain, Self::Knn, Self::Linear, Self::Finetune, Self::Export, Self::Report];

    /// The stage's name on the command line, in logs, results, labels and the names of objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Pretrain => "pretrain",
            Self::Knn => "knn",
            Self::Linear => "linear",
            Self::Finetune => "finetune",
            Self::Export => "export",
            Self::Report => "report",
        }
    }

    /// The ranks that the stage uses.
    pub fn ranks(self) -> StageRanks {
        match self {
            Self::Pretrain | Self::Linear | Self::Finetune => StageRanks::All,
            Self::Knn => StageRanks::OneNode,
            Self::Prepare | Self::Export | Self::Report => StageRanks::One,
        }
    }
}

/// The ranks that a stage uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageRanks {
    /// Those of all nodes.
    All,
    /// One per GPU of one node; one without GPUs.
    OneNode,
    /// One.
    One,
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|stage| stage.name() == name).ok_or_else(|| format!("unknown stage {name}"))
    }
}

impl Recipe {
    /// The stages that this recipe asks for, in order; at least one, by the rules.
    pub fn stages(&self) -> Vec<Stage> {
        let asked = |stage: &Stage| match stage {
            Stage::Prepare => self.dataset.pack.is_some(),
            Stage::Pretrain => self.pretrain.is_some(),
            Stage::Knn => self.knn.is_some(),
            Stage::Linear => self.linear.is_some(),
            Stage::Finetune => self.finetune.is_some(),
            Stage::Export => !self.export.is_empty(),
            Stage::Report => self.report.is_some(),
        };
        Stage::ALL.into_iter().filter(asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_names_match_json_and_parse() {
        for stage in Stage::ALL {
            assert_eq!(serde_json::to_value(stage).expect("json"), stage.name());
            assert_eq!(stage.name().parse(), Ok(stage));
        }
        assert!("pretrained".parse::<Stage>().is_err());
        assert!(Stage::ALL.is_sorted());
    }
}
