//! A whole run on this machine: stage after stage, with a table and `result.json` at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use simsiam_contract::ExitCode;
use simsiam_contract::names::{METRICS_PATH, METRICS_PORT};
use simsiam_recipe::{Stage, StageRanks};
use tokio::runtime::Runtime;

use super::run_result::{self, RunResult};
use super::topology::default_threads;
use super::{NodeStage, Outcome, RunStatus, Timeouts, Topology, http, supervise, tracking};
use crate::dist::device;
use crate::error::Error;
use crate::runtime;
use crate::stage::{StageRequest, pretrain};
use crate::storage::Storage;

/// How a run uses this machine.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Number of ranks; `None` is one per GPU, or one.
    pub nproc: Option<usize>,
    /// GPUs that this machine must have.
    pub gpus: usize,
    /// Intra-op threads of each rank.
    pub threads_per_rank: Option<u32>,
    /// Where metrics are served; `None` is the default port, or any free one if that is taken.
    pub metrics_addr: Option<SocketAddr>,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
}

/// Runs the stages of one run in order, and stops at the first that fails.
///
/// # Errors
/// That of the first stage that failed.
pub fn execute(requests: &[StageRequest], local: &LocalOptions) -> Result<(), Error> {
    let Some(first) = requests.first() else { return Ok(()) };
    device::require(local.gpus, "--gpus")?;
    let nproc = local.nproc.unwrap_or_else(device::count);
    if let Some(p) = first.recipe.pretrain.as_ref().filter(|_| requests.iter().any(|r| r.stage == Stage::Pretrain)) {
        pretrain::micro_batch(p, nproc)?;
    }
    let runtime = runtime::start()?;
    let storage = Storage::open(&first.recipe.output, runtime.handle().clone())?;
    let status = RunStatus::new(&first.run)?;
    let address = runtime.block_on(serve(local.metrics_addr, &status))?;
    tracing::info!("run {}: {nproc} ranks, metrics on http://{address}{METRICS_PATH}", first.run);
    let tracker = tracking::start(first, nproc, &storage, &status);
    let ended = stages(requests, nproc, local, &runtime, &status).and_then(|mut result| {
        // Results of other weights are shown, but are not results of this run.
        let uri = if requests.iter().any(|request| request.weights.is_some()) {
            None
        } else {
            result.write(&storage)?;
            Some(storage.uri(run_result::FILE))
        };
        print!("{}", result.table(uri));
        Ok(())
    });
    if let Some(tracker) = tracker {
        let stages: Vec<_> = requests.iter().map(|request| request.stage).collect();
        tracking::close(tracker, &ended, true, &stages);
    }
    ended
}

/// Runs the stages in order, up to the first that fails, and returns what they measured.
fn stages(
    requests: &[StageRequest],
    nproc: usize,
    local: &LocalOptions,
    runtime: &Runtime,
    status: &RunStatus,
) -> Result<RunResult, Error> {
    let mut result = RunResult::new(requests.first().map_or("", |request| &request.run));
    for request in requests {
        let (stage, start) = (request.stage, Instant::now());
        status.begin(stage.name());
        let ranks = match stage.ranks() {
            StageRanks::One => 1,
            StageRanks::OneNode => device::count().min(nproc),
            StageRanks::All => nproc,
        };
        let threads = local.threads_per_rank.filter(|_| ranks == nproc);
        let spec = NodeStage {
            request: request.clone(),
            topology: Topology::local(ranks),
            threads: threads.unwrap_or_else(|| default_threads(ranks)),
            timeouts: local.timeouts,
        };
        let outcome = runtime.block_on(supervise(&spec, status))?;
        status.end();
        let Outcome { code: ExitCode::Done, result: done, .. } = outcome else {
            let Outcome { code, reason, message, subject, .. } = outcome;
            return Err(Error::Stage { code, reason, message: format!("{}: {message}", stage.name()), subject });
        };
        result.add(stage.name(), done, start.elapsed());
    }
    Ok(result)
}

/// Serves metrics on `address`; without one, a taken default port is not a failure.
async fn serve(address: Option<SocketAddr>, status: &RunStatus) -> Result<SocketAddr, Error> {
    match address {
        Some(address) => http::serve(address, status.clone()).await,
        None => match http::serve((Ipv4Addr::LOCALHOST, METRICS_PORT).into(), status.clone()).await {
            Ok(address) => Ok(address),
            Err(_) => http::serve((Ipv4Addr::LOCALHOST, 0).into(), status.clone()).await,
        },
    }
}
