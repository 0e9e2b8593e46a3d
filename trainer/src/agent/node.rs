//! One stage on one node of a run, as `simsiam worker` runs it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use simsiam_contract::{ExitCode, Progress, StageResult};
use simsiam_recipe::Stage;
use tokio::runtime::Runtime;

use super::run_result::RunResult;
use super::topology::{TopologyArgs, default_threads};
use super::{NodeStage, Outcome, RunStatus, Timeouts, Topology, http, supervise, termination, tracking};
use crate::dist::device;
use crate::error::Error;
use crate::runtime;
use crate::stage::{StageRequest, pretrain};
use crate::storage::Storage;
use crate::telemetry::track::Tracker;

/// The node and what it runs.
#[derive(Clone, Debug)]
pub struct Node {
    /// The stage.
    pub request: StageRequest,
    /// This node among all, as the command line and the environment describe it.
    pub asked: TopologyArgs,
    /// GPUs that this node must have.
    pub gpus: usize,
    /// Intra-op threads of each rank; `None` is the node's cores divided by its ranks.
    pub threads_per_rank: Option<u32>,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
    /// Where metrics are served.
    pub metrics_addr: SocketAddr,
}

/// Runs a stage on this node and leaves a termination message, also where `node` is what kept it from starting.
///
/// # Errors
/// What kept the ranks from starting, or [`Error::Stage`] with the agent's exit code.
pub fn run(node: Result<Node, Error>, termination_log: &Path) -> Result<(), Error> {
    let outcome = match node.and_then(|node| attempt(&node, termination_log)) {
        Ok(outcome) => outcome,
        Err(e) => {
            termination::write_termination_message(
                termination_log,
                &termination::message(&Outcome::from(&e), &Progress::default()),
            );
            return Err(e);
        }
    };
    outcome.into_result()
}

fn attempt(node: &Node, termination_log: &Path) -> Result<Outcome, Error> {
    let request = &node.request;
    device::require(node.gpus, "spec.workers.gpusPerNode")?;
    let topology = Topology::resolve(&node.asked, device::count())?;
    if let Some(p) = request.recipe.pretrain.as_ref().filter(|_| request.stage == Stage::Pretrain) {
        pretrain::micro_batch(p, topology.world)?;
    }
    let threads = node.threads_per_rank.unwrap_or_else(|| default_threads(topology.nproc));
    let spec = NodeStage { request: request.clone(), topology, threads, timeouts: node.timeouts };
    let status = RunStatus::new(&request.run)?;
    status.begin(request.stage.name());
    let runtime = runtime::start()?;
    let tracker =
        if spec.topology.hosts_store() { start_tracker(request, spec.topology.world, &runtime, &status) } else { None };
    let start = Instant::now();
    // The kernel kills the ranks when the thread that started them ends: this one, which lives as long as the agent.
    let outcome = runtime.block_on(async {
        http::serve(node.metrics_addr, status.clone()).await?;
        supervise(&spec, &status).await
    });
    status.end();
    if let Ok(outcome) = &outcome {
        termination::write_termination_message(termination_log, &termination::message(outcome, &status.progress()));
        if outcome.code == ExitCode::Done && spec.topology.hosts_store() {
            // The stage is done and its results are in the termination message, whether or not this copy can be written.
            if let Err(e) = record(request, outcome.result.clone(), start.elapsed(), &runtime) {
                tracing::warn!("the results were not added to result.json: {e}");
            }
        }
    }
    if let Some(tracker) = tracker {
        let is_last = request.recipe.stages().last() == Some(&request.stage);
        let ended = match &outcome {
            Ok(outcome) => outcome.clone().into_result(),
            Err(e) => Outcome::from(e).into_result(),
        };
        tracking::close(tracker, &ended, is_last, &[request.stage]);
    }
    outcome
}

/// Starts the tracker of the run, if it has one; an output that cannot be opened is the ranks' failure.
fn start_tracker(request: &StageRequest, world: usize, runtime: &Runtime, status: &RunStatus) -> Option<Tracker> {
    request.recipe.track.as_ref()?;
    let storage = Storage::open(&request.recipe.output, runtime.handle().clone()).ok()?;
    let tracker = tracking::start(request, world, &storage, status)?;
    tracker.sender().stage(request.stage.name());
    Some(tracker)
}

/// Adds a stage's results to `result.json`: on a cluster each stage is a process of its own.
fn record(request: &StageRequest, done: StageResult, took: Duration, runtime: &Runtime) -> Result<(), Error> {
    let storage = Storage::open(&request.recipe.output, runtime.handle().clone())?;
    let mut result = RunResult::new(&request.run);
    result.add(request.stage.name(), done, took);
    result.write(&storage)
}
