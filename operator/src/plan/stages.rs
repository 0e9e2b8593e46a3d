//! Which stages a run has, and what each asks for.

use crate::api::{Run, Stage};

/// The stages that a run asks for, in order.
pub fn stages(run: &Run) -> Vec<Stage> {
    let recipe = &run.recipe;
    let asked = [
        (Stage::Prepare, recipe.dataset.pack.is_some()),
        (Stage::Pretrain, recipe.pretrain.is_some()),
        (Stage::Knn, recipe.knn.is_some()),
        (Stage::Linear, recipe.linear.is_some()),
        (Stage::Finetune, recipe.finetune.is_some()),
        (Stage::Export, !recipe.export.is_empty()),
        (Stage::Report, recipe.report.is_some()),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(stage, _)| stage).collect()
}

/// The stage after `stage`.
pub fn after(run: &Run, stage: Stage) -> Option<Stage> {
    stages(run).into_iter().find(|next| *next > stage)
}

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
