//! `state.json`: how far a run is, and what its last bits depend on.

use serde::{Deserialize, Serialize};

use crate::dist::device;
use crate::dist::rank::Rank;

/// `state.json`: how far the run is, and what its arithmetic depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Finished optimiser steps since the beginning of the run.
    pub step: u64,
    /// Finished epochs.
    pub epoch: u64,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
    /// The attempt that wrote this.
    pub attempt: u32,
    /// The run's seed.
    #[serde(default)]
    pub seed: u64,
    /// Samples of the training set.
    pub samples: u64,
    /// Digest of their names and classes; checkpoints of the first release have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<String>,
    /// SHA-256 over the recipe fields that change the arithmetic.
    pub digest: String,
    /// Those fields, to name what differs.
    pub arithmetic: serde_json::Value,
    /// The Reducer's rebuilt buckets, as indices into the trained parameters sorted by name: they fix the order of sums.
    pub bucket_order: Option<Vec<Vec<usize>>>,
    /// A classifier's accuracy so far, in stages that train one. The name in the file is that of the first release.
    #[serde(default, rename = "judged", skip_serializing_if = "Option::is_none")]
    pub eval_record: Option<EvalRecord>,
    /// What else the last bits depend on.
    pub environment: Environment,
}

/// Accuracy of a classifier over the epochs that were evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvalRecord {
    /// How many epochs were evaluated.
    pub epochs: u64,
    /// The best of them, counted from 1.
    pub best_epoch: u64,
    /// Its top-1 accuracy in percent.
    pub best_top1: f64,
    /// Its top-5 accuracy in percent.
    pub best_top5: f64,
    /// The last one's top-1 accuracy in percent.
    pub last_top1: f64,
    /// Validation images of each evaluation.
    pub images: u64,
}

/// What must be the same for a resumed run to end with the same bits; a difference is a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Number of ranks.
    pub world_size: usize,
    /// libtorch's intra-op threads in each rank.
    pub threads_per_rank: u32,
    /// `cpu` with its instruction set, or the GPU's name.
    pub device: String,
    /// `NCCL_ALGO`, if set.
    #[serde(default)]
    pub nccl_algo: Option<String>,
    /// `NCCL_PROTO`, if set.
    #[serde(default)]
    pub nccl_proto: Option<String>,
    /// Version of this program.
    pub simsiam: String,
    /// Version of libtorch.
    pub libtorch: String,
}

impl Environment {
    /// Returns the environment of a rank.
    pub fn of(rank: &Rank) -> Self {
        Self {
            world_size: rank.info.world,
            threads_per_rank: rank.info.threads,
            device: device::name(rank.device),
            nccl_algo: std::env::var("NCCL_ALGO").ok(),
            nccl_proto: std::env::var("NCCL_PROTO").ok(),
            simsiam: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: tch_ext::version(),
        }
    }

    /// Lists every difference to `now`, as `threadsPerRank was 1, is 2`.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let (Ok(serde_json::Value::Object(was)), Ok(serde_json::Value::Object(is))) =
            (serde_json::to_value(self), serde_json::to_value(now))
        else {
            return Vec::new();
        };
        was.iter()
            .filter(|(key, value)| is.get(*key) != Some(value))
            .map(|(key, value)| format!("{key} was {value}, is {}", is.get(key).unwrap_or(&serde_json::Value::Null)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_of_environments_names_the_field() {
        let was = Environment {
            world_size: 2,
            threads_per_rank: 1,
            device: "cpu AVX2".into(),
            nccl_algo: None,
            nccl_proto: None,
            simsiam: "0.1.0".into(),
            libtorch: "2.11.0".into(),
        };
        let is = Environment { threads_per_rank: 2, ..was.clone() };
        assert_eq!(was.differences(&is), ["threadsPerRank was 1, is 2"]);
        assert!(was.differences(&was).is_empty());
    }
}
