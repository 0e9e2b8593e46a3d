//! What each stage asks for.

use simsiam_recipe::Stage;

use crate::api::Run;

/// The pods of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pods, one a node.
    pub nodes: u32,
    /// GPUs of each.
    pub gpus: u32,
    /// Rank processes of each.
    pub procs: u32,
}

impl Shape {
    /// What `stage` asks for. Packing and exporting run on a CPU alone; kNN and the report compute features in one
    /// process, kNN in one a GPU.
    pub fn of(run: &Run, stage: Stage) -> Self {
        let workers = &run.cluster.workers;
        let gpus = workers.gpus_per_node;
        match stage {
            Stage::Pretrain | Stage::Linear | Stage::Finetune => {
                let procs = workers.procs_per_node.unwrap_or_else(|| gpus.max(1));
                Self { nodes: workers.nodes, gpus, procs }
            }
            Stage::Knn => Self { nodes: 1, gpus, procs: gpus.max(1) },
            Stage::Report => Self { nodes: 1, gpus: gpus.min(1), procs: 1 },
            Stage::Prepare | Stage::Export => Self { nodes: 1, gpus: 0, procs: 1 },
        }
    }
}
