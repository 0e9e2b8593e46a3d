//! A whole run on this machine: stage after stage, a table and `result.json` at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use simsiam_contract::names::{METRICS_PATH, METRICS_PORT};
use simsiam_contract::{ClassifierScore, Exported, KnnScore, StageResult, headline};
use simsiam_recipe::{RunFile, Stage};
use tokio::runtime::Runtime;

use crate::agent::http;
use crate::agent::{Outcome, RunStatus, Spec, Topology, supervise};
use crate::cli;
use crate::cli::Patience;
use crate::dist::device;
use crate::error::{Error, ExitCode};
use crate::stage::pretrain;
use crate::storage::Storage;
use crate::telemetry::display::duration;

/// How the run uses this machine.
pub struct Local {
    /// Rank processes; `None` is one a GPU, or one.
    pub nproc: Option<usize>,
    /// libtorch's threads in each.
    pub threads_per_rank: Option<u32>,
    /// Where metrics are served.
    pub metrics_addr: Option<SocketAddr>,
    /// Bounds on waiting.
    pub patience: Patience,
    /// What ranks are told of the run.
    pub arguments: Vec<String>,
    /// Whether it works on the run's own weights. What is found out of others is shown, and is no result of the run.
    pub of_the_run: bool,
}

/// `result.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunResult {
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

/// kNN accuracy: the reported figure and all protocols.
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

const RESULT: &str = "result.json";

/// Runs every stage of the file, or one alone. An error is that of the first stage that failed.
pub fn execute(run: &RunFile, local: &Local, only: Option<Stage>) -> Result<(), Error> {
    for field in run
        .cluster_only
        .keys()
        .map(String::as_str)
        .chain(run.recipe.output.credentials_secret.as_ref().map(|_| "output.credentialsSecret"))
    {
        tracing::info!("spec.{field} is for clusters and not used here");
    }
    let stages = match only {
        Some(stage) => vec![stage],
        None => run.recipe.stages(),
    };
    let nproc = local.nproc.unwrap_or_else(device::count);
    if let Some(p) = run.recipe.pretrain.as_ref().filter(|_| stages.contains(&Stage::Pretrain)) {
        pretrain::micro_batch(p, nproc)?;
    }
    let runtime = Runtime::new().map_err(Error::io("the async runtime"))?;
    let storage = Storage::open(&run.recipe.output, runtime.handle().clone())?;
    let board = RunStatus::new(&run.name)?;
    let address = runtime.block_on(serve(local.metrics_addr, &board))?;
    tracing::info!("run {}: {nproc} ranks, metrics on http://{address}{METRICS_PATH}", run.name);
    let mut result = RunResult { run: run.name.clone(), ..RunResult::default() };
    for stage in stages {
        let start = Instant::now();
        board.begin(stage.name());
        let ranks = match stage {
            Stage::Prepare | Stage::Export | Stage::Report => 1,
            Stage::Knn => device::count().min(nproc),
            Stage::Pretrain | Stage::Linear | Stage::Finetune => nproc,
        };
        let threads = local.threads_per_rank.filter(|_| ranks == nproc);
        let spec = Spec {
            stage,
            topology: Topology::local(ranks),
            arguments: local.arguments.clone(),
            threads: threads.unwrap_or_else(|| cli::default_threads(ranks)),
            rendezvous_timeout: Duration::from_secs(local.patience.rendezvous_timeout),
            stall_timeout: Duration::from_secs(local.patience.stall_timeout),
            grace: Duration::from_secs(10),
            stop_grace: Duration::from_secs(local.patience.stop_grace),
        };
        let outcome = runtime.block_on(supervise(&spec, &board))?;
        board.end();
        let Outcome { code: ExitCode::Done, result: done, .. } = outcome else {
            return Err(Error::Rank { code: outcome.code, message: format!("{}: {}", stage.name(), outcome.message) });
        };
        result.take(done);
        result.stages.push(StageTime { name: stage.name().into(), seconds: start.elapsed().as_secs_f64() });
    }
    if !local.of_the_run {
        print!("{}", result.table(None));
        return Ok(());
    }
    result.write(&storage)?;
    print!("{}", result.table(Some(storage.uri(RESULT))));
    Ok(())
}

/// Adds what a stage found to `result.json`: where the stages of a run are processes of their own, as on a cluster.
pub fn record(run: &RunFile, stage: Stage, done: StageResult, took: Duration, runtime: &Runtime) -> Result<(), Error> {
    let storage = Storage::open(&run.recipe.output, runtime.handle().clone())?;
    let mut result = RunResult { run: run.name.clone(), ..RunResult::default() };
    result.take(done);
    result.stages.push(StageTime { name: stage.name().into(), seconds: took.as_secs_f64() });
    result.write(&storage)
}

/// Serves metrics where asked; where nobody asked, a taken port is no reason to fail.
async fn serve(asked: Option<SocketAddr>, board: &RunStatus) -> Result<SocketAddr, Error> {
    match asked {
        Some(address) => http::serve(address, board.clone()).await,
        None => match http::serve((Ipv4Addr::LOCALHOST, METRICS_PORT).into(), board.clone()).await {
            Ok(address) => Ok(address),
            Err(_) => http::serve((Ipv4Addr::LOCALHOST, 0).into(), board.clone()).await,
        },
    }
}

impl RunResult {
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

    fn write(&mut self, storage: &Storage) -> Result<(), Error> {
        self.fill_from_before(storage)?;
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Usage(e.to_string()))?;
        storage.put(RESULT, json)
    }

    /// What was measured before of the same weights still holds: a run that was finished trains nothing again, and a
    /// stage may be run alone.
    fn fill_from_before(&mut self, storage: &Storage) -> Result<(), Error> {
        let Some(before) = storage.get(RESULT)? else { return Ok(()) };
        let Ok(before) = serde_json::from_slice::<Self>(&before) else { return Ok(()) };
        // Packing has no weights to speak of.
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

    fn table(&self, uri: Option<String>) -> String {
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
