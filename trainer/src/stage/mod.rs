//! A stage as one rank process runs it, from its environment to its last word.

pub mod classify;
pub mod export;
pub mod pretrain;

use std::path::PathBuf;
use std::time::Duration;

use simsiam_contract::names::env;
use simsiam_contract::{RankPhase, StageResult};
use simsiam_recipe::{Recipe, Stage};
use tch::Kind;

use self::classify::{Encoder, Protocol};
use crate::checkpoint::{Checkpoints, snapshot};
use crate::data::datasets::{Datasets, eval_view, loader_threads};
use crate::dist::rank::{Rank, RankInfo};
use crate::error::Error;
use crate::eval::knn::{Evaluation, Features};
use crate::model::SimSiam;
use crate::report;
use crate::storage::Storage;
use crate::telemetry::Sink;
use crate::telemetry::event::Event;
use crate::telemetry::journal::{self, Journal};
use crate::weights::{self, Weights};

/// What a rank process is told to do.
pub struct Order {
    /// The stage.
    pub stage: Stage,
    /// The run's name.
    pub name: String,
    /// The run.
    pub recipe: Recipe,
    /// The text of its file.
    pub text: String,
    /// Number of this attempt.
    pub attempt: Option<u32>,
    /// Sizes of DDP's buckets in bytes.
    pub buckets: (usize, usize),
    /// What a classifier is put on in the place of the latest checkpoint's encoder.
    pub weights: Option<String>,
}

/// Runs a stage in this process; the agent hears how it went.
pub fn run(order: &Order) -> Result<(), Error> {
    let (place, sink) = from_environment()?;
    let result = work(order, place, sink.clone());
    match &result {
        Ok(result) => sink.send(&Event::Done(Box::new(result.clone()))),
        Err(e) => {
            sink.send(&Event::Failed {
                code: e.exit_code().code(),
                reason: e.reason(),
                message: e.to_string(),
                subject: e.subject(),
            });
        }
    }
    result.map(drop).map_err(|e| Error::AlreadyReported(e.exit_code()))
}

fn work(order: &Order, place: RankInfo, sink: Sink) -> Result<StageResult, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("storage")
        .enable_all()
        .build()
        .map_err(Error::io("the async runtime"))?;
    let mut rank = Rank::join(place, sink)?;
    let storage = Storage::open(&order.recipe.output, runtime.handle().clone())?;
    let attempt = attempt(&rank, order, &storage)?;
    // Rank 0's; written to its end when it is dropped, however the stage ends. Other weights are not in the run's history.
    let _journal = attempt.filter(|_| rank.is_first() && order.weights.is_none()).and_then(|attempt| {
        let journal = Journal::start(storage.clone(), order.stage.name(), attempt);
        let journal = journal.inspect_err(|e| tracing::warn!("there will be no journal of this stage: {e}")).ok()?;
        rank.sink = std::mem::take(&mut rank.sink).with_journal(journal.feed());
        Some(journal)
    });
    match order.stage {
        Stage::Pretrain => {
            let (recipe, buckets) = (&order.recipe, order.buckets);
            pretrain::run(&rank, pretrain::Request { recipe, storage, attempt, buckets })
        }
        Stage::Prepare => prepare(&rank, &order.recipe, &storage),
        Stage::Knn => knn(&rank, &order.recipe, &storage, None, false),
        Stage::Linear => classify(&rank, order, &storage, Protocol::linear),
        Stage::Finetune => classify(&rank, order, &storage, Protocol::finetune),
        Stage::Export => export::run(&rank, &order.recipe, &storage),
        Stage::Report => {
            let run = report::Run { name: &order.name, recipe: &order.recipe, text: &order.text };
            let report = report::write(&rank, &run, &storage)?;
            Ok(StageResult { report: Some(report), ..StageResult::default() })
        }
    }
}

/// The attempt as it was ordered; where nobody counts them, rank 0 counts from what earlier ones left.
fn attempt(rank: &Rank, order: &Order, storage: &Storage) -> Result<Option<u32>, Error> {
    if order.attempt.is_some() || !rank.is_first() {
        return Ok(order.attempt);
    }
    let next = journal::next_attempt(storage, order.stage.name())?;
    Ok(Some(match order.stage {
        Stage::Pretrain => next.max(Checkpoints::new(storage.clone()).next_attempt()?),
        _ => next,
    }))
}

/// Trains a classifier on the latest checkpoint's encoder and, where asked, on the untrained one before.
fn classify(
    rank: &Rank,
    order: &Order,
    storage: &Storage,
    protocol: fn(&Recipe) -> Result<Protocol, Error>,
) -> Result<StageResult, Error> {
    let (recipe, attempt, buckets) = (&order.recipe, order.attempt, order.buckets);
    let protocol = protocol(recipe)?;
    let weights = weights::open_in_place(order.weights.as_deref(), &recipe.output, storage.runtime())?;
    let on = |encoder| {
        let (storage, protocol) = (storage.clone(), protocol.clone());
        classify::run(rank, classify::Request { recipe, storage, attempt, buckets, protocol, encoder })
    };
    let untrained = match &protocol {
        Protocol::Linear(linear) if linear.untrained_too => on(Encoder::Untrained)?.linear_untrained,
        _ => None,
    };
    Ok(StageResult { linear_untrained: untrained, ..on(weights.as_ref().map_or(Encoder::Trained, Encoder::Other))? })
}

/// Packs the recipe's data sets into its output.
fn prepare(rank: &Rank, recipe: &Recipe, storage: &Storage) -> Result<StageResult, Error> {
    if rank.is_first() {
        rank.sink.send(&Event::Phase { phase: RankPhase::Starting });
        let datasets = Datasets::new(recipe, storage.runtime().clone());
        datasets.prepare(loader_threads(&recipe.dataset, rank), |part, done, of| {
            let (done, of) = (done as u64, of as u64);
            rank.sink.send(&Event::Evaluated { done, of, what: format!("{part} images packed") });
        })?;
    }
    rank.barrier("packing")?;
    Ok(StageResult::default())
}

/// Judges the encoder of other weights or else of the latest checkpoint, the untrained one and, where asked, raw pixels.
pub fn knn(
    rank: &Rank,
    recipe: &Recipe,
    storage: &Storage,
    weights: Option<&Weights>,
    pixels: bool,
) -> Result<StageResult, Error> {
    let missing = |field| Error::config(field, "missing; kNN judges the encoder that spec.pretrain describes");
    let pretrain = recipe.pretrain.as_ref().ok_or_else(|| missing("spec.pretrain"))?;
    let protocols = recipe.knn.clone().unwrap_or_default();
    let datasets = Datasets::new(recipe, storage.runtime().clone());
    let train = datasets.train()?;
    let val = datasets.val(train.classes())?;
    let loader_threads = loader_threads(&recipe.dataset, rank);
    let evaluation = Evaluation { train, val, view: eval_view(&pretrain.augment), knn: &protocols, loader_threads };
    let latest = || {
        Checkpoints::new(storage.clone()).latest()?.ok_or_else(|| Error::Checkpoint {
            uri: storage.uri("checkpoints"),
            message: "there is no valid checkpoint to judge; run the pretrain stage first".into(),
        })
    };
    let found = if weights.is_some() { None } else { Some(latest()?) };
    let model = SimSiam::new(pretrain, Kind::Float, rank.device)?;
    let tell = |features: &str, epoch, step, scores: &Vec<_>| {
        rank.sink.send(&Event::Knn { epoch, step, features: features.into(), scores: scores.clone() });
    };
    let untrained = evaluation.run(rank, &Features::Backbone(&model))?;
    tell("untrained", 0, 0, &untrained);
    let (uri, epoch) = match (weights, &found) {
        (Some(weights), _) => {
            weights.fill_simsiam_backbone(model.params())?;
            (Some(weights.uri.clone()), weights.epochs.unwrap_or(0))
        }
        (None, Some(found)) => {
            snapshot::restore_model(model.params(), &found.model, &found.uri)?;
            (Some(found.uri.clone()), found.state.epoch)
        }
        (None, None) => (None, 0),
    };
    let trained = evaluation.run(rank, &Features::Backbone(&model))?;
    tell("trained", epoch, found.as_ref().map_or(0, |found| found.state.step), &trained);
    let pixels = if pixels {
        let scores = evaluation.run(rank, &Features::Pixels)?;
        tell("pixels", 0, 0, &scores);
        Some(scores)
    } else {
        None
    };
    Ok(StageResult {
        epoch: Some(epoch),
        step: found.map(|found| found.state.step),
        checkpoint: uri,
        knn: Some(trained),
        knn_untrained: Some(untrained),
        knn_pixels: pixels,
        ..StageResult::default()
    })
}

/// The place that the agent put into the environment, and its socket.
fn from_environment() -> Result<(RankInfo, Sink), Error> {
    fn variable<T: std::str::FromStr>(name: &str) -> Result<T, Error> {
        let text = std::env::var(name)
            .map_err(|_| Error::Usage(format!("{name} is not set; `simsiam rank` is started by `simsiam worker`")))?;
        text.parse().map_err(|_| Error::Usage(format!("{name}={text} is not of the expected form")))
    }
    die_with_agent()?;
    let place = RankInfo {
        rank: variable(env::RANK)?,
        world: variable(env::WORLD_SIZE)?,
        local_rank: variable(env::LOCAL_RANK)?,
        master_addr: variable(env::MASTER_ADDR)?,
        master_port: variable(env::MASTER_PORT)?,
        timeout: Duration::from_secs(variable("SIMSIAM_TIMEOUT")?),
        threads: variable("SIMSIAM_THREADS")?,
    };
    let socket: PathBuf = variable("SIMSIAM_AGENT_SOCKET")?;
    Ok((place, Sink::connect(&socket)?))
}

/// A rank without its agent would hold its GPU and its peers for ever.
fn die_with_agent() -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    {
        let failed = |e: nix::Error| Error::Usage(format!("cannot ask to be ended with the agent: {e}"));
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(failed)?;
        let agent = std::env::var("SIMSIAM_AGENT_PID").ok().and_then(|p| p.parse::<i32>().ok());
        if agent.is_some_and(|agent| nix::unistd::getppid().as_raw() != agent) {
            return Err(Error::Usage("the agent that started this rank is gone".into()));
        }
    }
    Ok(())
}
