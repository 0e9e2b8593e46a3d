//! The pods that each stage needs.

use simsiam_recipe::Stage;

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
        match stage {
            Stage::Pretrain | Stage::Linear | Stage::Finetune => {
                let procs = workers.procs_per_node.unwrap_or_else(|| gpus.max(1));
                Self { nodes: workers.nodes, gpus, procs, devices: true }
            }
            Stage::Knn => Self { nodes: 1, gpus, procs: gpus.max(1), devices: true },
            Stage::Report => Self { nodes: 1, gpus: gpus.min(1), procs: 1, devices: true },
            Stage::Prepare | Stage::Export => Self { nodes: 1, gpus: 0, procs: 1, devices: false },
        }
    }
}
