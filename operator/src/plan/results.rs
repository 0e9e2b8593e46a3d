//! Results of a finished stage, for the status.

use simsiam_contract::{StageResult, headline};
use simsiam_recipe::Stage;

use super::planner::{Planner, rounded};

/// The most exported files that the status names.
const EXPORTS: usize = 16;

impl Planner<'_> {
    /// Copies a finished stage's results into the status.
    pub(super) fn set_results(&mut self, stage: Stage, result: &StageResult) {
        let results = self.plan.status.results.get_or_insert_default();
        let to = |places: i32| move |x: f64| rounded(x, places);
        match stage {
            Stage::Prepare => {}
            Stage::Pretrain => {
                results.loss = result.loss.map(to(4));
                results.output_std = result.output_std.map(to(6));
                results.images_per_second = result.images_per_second.map(to(1));
                results.weights_sha256.clone_from(&result.weights_sha256);
                results.checkpoint.clone_from(&result.checkpoint);
            }
            Stage::Knn => results.knn_top1 = headline(result.knn.as_deref()).map(to(4)),
            Stage::Linear => {
                let score = result.linear.as_ref();
                results.linear_top1 = score.map(|score| rounded(score.top1, 4));
                results.linear_top5 = score.map(|score| rounded(score.top5, 4));
                results.caveat = score.and_then(|score| score.caveat.clone());
            }
            Stage::Finetune => {
                let score = result.finetune.as_ref();
                results.finetune_top1 = score.map(|score| rounded(score.top1, 4));
                results.finetune_top5 = score.map(|score| rounded(score.top5, 4));
            }
            Stage::Export => {
                let files = result.exports.iter().flatten().map(|export| export.file.clone());
                results.exports = files.take(EXPORTS).collect();
            }
            Stage::Report => results.report.clone_from(&result.report),
        }
    }
}
