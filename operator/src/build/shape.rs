//! The pods that each stage needs.

use simsiam_recipe::{Stage, StageRanks};

use crate::api::ValidatedRun;

/// The pods of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of pods, one per node.
    pub nodes: u32,
    /// GPUs of each pod.
    pub gpus: u32,
    /// Ranks of each pod.
    pub procs: u32,
    /// Whether each pod requests the other devices of `workers`.
    pub devices: bool,
}

impl Shape {
    /// The pods of `stage`. Packing and exporting need no GPU; kNN and the report run on one node, kNN with one rank per
    /// GPU and the report with one rank.
    pub fn of(run: &ValidatedRun, stage: Stage) -> Self {
        let workers = &run.cluster.workers;
        let gpus = workers.gpus_per_node;
        // Packing and exporting compute nothing.
        let devices = !matches!(stage, Stage::Prepare | Stage::Export);
        let gpus = if devices { gpus } else { 0 };
        match stage.ranks() {
            StageRanks::All => {
                let procs = workers.procs_per_node.unwrap_or_else(|| gpus.max(1));
                Self { nodes: workers.nodes, gpus, procs, devices }
            }
            StageRanks::OneNode => Self { nodes: 1, gpus, procs: gpus.max(1), devices },
            StageRanks::One => Self { nodes: 1, gpus: gpus.min(1), procs: 1, devices },
        }
    }
}
