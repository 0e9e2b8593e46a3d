//! A stage as one rank runs it: [`run()`] dispatches on the stage of its [`StageRequest`].

pub mod classify;
pub mod export;
mod gpu_memory;
pub mod knn;
pub mod prepare;
pub mod pretrain;
pub mod rank_environment;
pub mod request;

use simsiam_contract::StageResult;
use simsiam_recipe::{Recipe, Stage};

pub use self::request::StageRequest;

use self::classify::{Encoder, Protocol};
use crate::checkpoint::Checkpoints;
use crate::dist::rank::{Rank, RankInfo};
use crate::error::Error;
use crate::report;
use crate::storage::Storage;
use crate::telemetry::journal::{self, Journal};
use crate::telemetry::{Event, Sink};
use crate::weights;

/// Runs a stage in this process, started by an agent, and reports to it how the stage ended.
///
/// ```no_run
/// use simsiam::stage::{self, StageRequest};
///
/// let request = StageRequest::read("/tmp/simsiam-1/request.json".as_ref())?;
/// stage::run(&request)?;
/// # Ok::<(), simsiam::Error>(())
/// ```
///
/// # Errors
/// [`Error::AlreadyReported`] with the exit code, or what kept this rank from reaching its agent.
pub fn run(request: &StageRequest) -> Result<(), Error> {
    let (info, sink) = rank_environment::connect()?;
    let result = dispatch(request, info, sink.clone()).map_err(|e| gpu_memory::explain(e, request.stage));
    match &result {
        Ok(result) => sink.send(&Event::Done(Box::new(result.clone()))),
        Err(e) => sink.send(&Event::Failed {
            code: e.exit_code().code(),
            reason: e.reason(),
            message: e.to_string(),
            subject: e.subject(),
        }),
    }
    result.map(drop).map_err(|e| Error::AlreadyReported(e.exit_code()))
}

fn dispatch(request: &StageRequest, info: RankInfo, sink: Sink) -> Result<StageResult, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("storage")
        .enable_all()
        .build()
        .map_err(Error::system("start the async runtime"))?;
    let mut rank = Rank::join(info, sink)?;
    let recipe = &request.recipe;
    let storage = Storage::open(&recipe.output, runtime.handle().clone())?;
    let attempt = attempt(&rank, request, &storage)?;
    if rank.is_first() {
        rank.sink.send(&Event::Attempt { number: attempt });
    }
    // Written completely when it is dropped, however the stage ends. Results of other weights are not the run's.
    let keeps_journal = rank.is_first() && request.weights.is_none();
    let _journal =
        keeps_journal.then(|| Journal::start(storage.clone(), request.stage.name(), attempt)).and_then(|journal| {
            let journal = journal.inspect_err(|e| tracing::warn!("this stage will have no journal: {e}")).ok()?;
            rank.sink = std::mem::take(&mut rank.sink).with_journal(journal.sender());
            Some(journal)
        });
    match request.stage {
        Stage::Pretrain => {
            pretrain::run(&rank, pretrain::PretrainInput { recipe, storage, attempt, buckets: request.bucket_sizes })
        }
        Stage::Prepare => prepare::run(&rank, recipe, &storage),
        Stage::Knn => knn::run(&rank, recipe, &storage, None, false),
        Stage::Linear => classify(&rank, request, &storage, attempt, Protocol::linear),
        Stage::Finetune => classify(&rank, request, &storage, attempt, Protocol::finetune),
        Stage::Export => export::run(&rank, &request.run, recipe, &storage),
        Stage::Report => {
            let run = report::Run { name: &request.run, recipe, text: &request.text };
            let report = report::write(&rank, &run, &storage)?;
            Ok(StageResult { report: Some(report), ..StageResult::default() })
        }
    }
}

/// The number of this attempt, the same on every rank: the requested one, or one more than any that a journal or a
/// checkpoint of the stage has, if there is none or it was used before. A run that is deleted and applied again begins with
/// 1, and the Job of an attempt starts again when its queue re-admits it; pods of before may still write to the folders of
/// that number.
fn attempt(rank: &Rank, request: &StageRequest, storage: &Storage) -> Result<u32, Error> {
    rank.on_rank_0("counting attempts", || {
        let name = request.stage.name();
        let checkpoints = match request.stage {
            Stage::Pretrain => vec![Checkpoints::new(storage.clone())],
            // A folder for each encoder and each set of fields that a classifier was trained with.
            Stage::Linear | Stage::Finetune => {
                let of = |folder: &String| Checkpoints::in_folder(storage.clone(), format!("{name}/{folder}"));
                storage.folders(name)?.iter().map(of).collect()
            }
            Stage::Prepare | Stage::Knn | Stage::Export | Stage::Report => Vec::new(),
        };
        let mut next = journal::next_attempt(storage, name)?;
        for checkpoints in checkpoints {
            next = next.max(checkpoints.next_attempt()?);
        }
        Ok(request.attempt.map_or(next, |requested| requested.max(next)))
    })
}

/// Trains a classifier on the encoder of the latest checkpoint or of other weights and, if the protocol asks for it, on
/// the untrained encoder before.
fn classify(
    rank: &Rank,
    request: &StageRequest,
    storage: &Storage,
    attempt: u32,
    protocol: fn(&Recipe) -> Result<Protocol, Error>,
) -> Result<StageResult, Error> {
    let (recipe, buckets) = (&request.recipe, request.bucket_sizes);
    let protocol = protocol(recipe)?;
    // Read by rank 0 alone; the encoder is broadcast from there.
    let mut weights = None;
    rank.on_rank_0("reading --weights", || {
        weights = weights::open_in_place(request.weights.as_deref(), &recipe.output, storage.runtime())?;
        Ok(())
    })?;
    let given = if request.weights.is_some() { Encoder::Other(weights.as_ref()) } else { Encoder::Trained };
    let on = |encoder| {
        let (storage, protocol) = (storage.clone(), protocol.clone());
        classify::run(rank, classify::ClassifyInput { recipe, storage, attempt, buckets, protocol, encoder })
    };
    let untrained = match &protocol {
        Protocol::Linear(linear) if linear.untrained_too => on(Encoder::Untrained)?.linear_untrained,
        _ => None,
    };
    Ok(StageResult { linear_untrained: untrained, ..on(given)? })
}
