//! `result.json`: what the stages of a run measured.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use simsiam_contract::{ClassifierScore, Exported, KnnScore, StageResult, headline};

use crate::error::Error;
use crate::storage::Storage;
use crate::telemetry::display::duration;

/// Name of the document in the run's output.
pub const FILE: &str = "result.json";

/// The results of a run, `result.json` in its output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunResult {
    run: String,
    knn: Option<Knn>,
    knn_untrained: Option<Knn>,
    linear: Option<ClassifierScore>,
    linear_untrained: Option<ClassifierScore>,
    finetune: Option<ClassifierScore>,
    exports: Vec<Exported>,
    loss: Option<f64>,
    output_std: Option<f64>,
    images_per_second: Option<f64>,
    epochs: Option<u64>,
    steps: Option<u64>,
    checkpoint: Option<String>,
    weights_sha256: Option<String>,
    report: Option<String>,
    stages: Vec<StageTime>,
}

/// kNN accuracy: the headline score and all protocols.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Knn {
    top1: f64,
    protocols: Vec<KnnScore>,
}

/// A stage's wall time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StageTime {
    name: String,
    seconds: f64,
}

impl RunResult {
    /// The results of a run of which no stage has finished.
    pub fn new(run: &str) -> Self {
        Self { run: run.to_owned(), ..Self::default() }
    }

    /// Adds what a stage measured, which took `seconds` of wall time.
    pub fn add(&mut self, stage: &str, done: StageResult, took: Duration) {
        self.take(done);
        self.stages.push(StageTime { name: stage.to_owned(), seconds: took.as_secs_f64() });
    }

    fn take(&mut self, done: StageResult) {
        let knn = |scores: Option<Vec<KnnScore>>| {
            headline(scores.as_deref()).map(|top1| Knn { top1, protocols: scores.unwrap_or_default() })
        };
        self.knn = knn(done.knn).or(self.knn.take());
        self.knn_untrained = knn(done.knn_untrained).or(self.knn_untrained.take());
        self.linear = done.linear.or(self.linear.take());
        self.linear_untrained = done.linear_untrained.or(self.linear_untrained.take());
        self.finetune = done.finetune.or(self.finetune.take());
        self.exports.extend(done.exports.into_iter().flatten());
        self.loss = done.loss.or(self.loss);
        self.output_std = done.output_std.or(self.output_std);
        self.images_per_second = done.images_per_second.or(self.images_per_second);
        self.epochs = done.epoch.or(self.epochs);
        self.steps = done.step.or(self.steps);
        self.checkpoint = done.checkpoint.or(self.checkpoint.take());
        self.weights_sha256 = done.weights_sha256.or(self.weights_sha256.take());
        self.report = done.report.or(self.report.take());
    }

    /// Writes the document over the one of earlier stages and keeps what that measured of the same weights.
    ///
    /// # Errors
    /// If the output cannot be read or written.
    pub fn write(&mut self, storage: &Storage) -> Result<(), Error> {
        self.merge_earlier(storage)?;
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Internal(format!("result.json: {e}")))?;
        storage.put(FILE, json)
    }

    /// Keeps earlier results of the same weights: a finished run does not train again, and a stage may be run alone.
    fn merge_earlier(&mut self, storage: &Storage) -> Result<(), Error> {
        let Some(before) = storage.get(FILE)? else { return Ok(()) };
        let Ok(before) = serde_json::from_slice::<Self>(&before) else { return Ok(()) };
        // The prepare stage has no weights.
        if self.weights_sha256.is_some() && before.weights_sha256 != self.weights_sha256 {
            return Ok(());
        }
        self.weights_sha256 = self.weights_sha256.take().or(before.weights_sha256);
        self.checkpoint = self.checkpoint.take().or(before.checkpoint);
        let Self { knn, knn_untrained, linear, linear_untrained, finetune, loss, output_std, .. } = before;
        self.knn = self.knn.take().or(knn);
        self.knn_untrained = self.knn_untrained.take().or(knn_untrained);
        if self.linear.is_none() {
            (self.linear, self.linear_untrained) = (linear, linear_untrained);
        }
        self.finetune = self.finetune.take().or(finetune);
        self.loss = self.loss.or(loss);
        self.output_std = self.output_std.or(output_std);
        self.images_per_second = self.images_per_second.or(before.images_per_second);
        self.epochs = self.epochs.or(before.epochs);
        self.steps = self.steps.or(before.steps);
        self.report = self.report.take().or(before.report);
        if self.exports.is_empty() {
            self.exports = before.exports;
        }
        let again: Vec<_> = self.stages.drain(..).collect();
        let others = before.stages.into_iter().filter(|b| !again.iter().any(|a| a.name == b.name));
        self.stages = others.collect();
        self.stages.extend(again);
        Ok(())
    }

    /// The results as a table; `uri` is where the document is.
    pub fn table(&self, uri: Option<String>) -> String {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: Option<String>| rows.extend(value.map(|v| (name.to_owned(), v)));
        let percent = |knn: &Option<Knn>| knn.as_ref().map(|k| format!("{:.2} %", k.top1));
        row("kNN top-1", percent(&self.knn));
        row("kNN top-1, untrained encoder", percent(&self.knn_untrained));
        let classifier = |score: &Option<ClassifierScore>| {
            score.as_ref().map(|s| {
                let caveat = s.caveat.as_ref().map_or(String::new(), |c| format!(" ({c})"));
                format!("{:.2} % / {:.2} % in epoch {}{caveat}", s.top1, s.top5, s.best_epoch)
            })
        };
        row("linear top-1 / top-5", classifier(&self.linear));
        row("the same, untrained encoder", classifier(&self.linear_untrained));
        row("fine-tuned top-1 / top-5", classifier(&self.finetune));
        row("loss", self.loss.map(|v| format!("{v:.4}")));
        row("output std", self.output_std.map(|v| format!("{v:.5}")));
        row("images/s", self.images_per_second.map(|v| format!("{v:.0}")));
        row("epochs / steps", self.epochs.zip(self.steps).map(|(e, s)| format!("{e} / {s}")));
        for stage in &self.stages {
            row(&format!("time of {}", stage.name), Some(duration(stage.seconds)));
        }
        row("checkpoint", self.checkpoint.clone());
        for exported in &self.exports {
            row("exported", Some(exported.file.clone()));
        }
        row("report", self.report.clone());
        row("results", uri);
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let title = format!("run {}", self.run);
        let body: String = rows.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect();
        format!("\n{title}\n{}\n{body}", "─".repeat(title.chars().count()))
    }
}
