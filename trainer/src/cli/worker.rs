//! `simsiam worker`: one stage on one node; and `simsiam rank`, the processes it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use simsiam_contract::names::{METRICS_PORT, TERMINATION_LOG, env};
use simsiam_recipe::Stage;

use super::file::FileArgs;
use super::weights::WeightsArgs;
use crate::agent::http;
use crate::agent::local;
use crate::agent::topology::Asked;
use crate::agent::{Outcome, RunStatus, Spec, Topology, supervise, termination};
use crate::dist::device;
use crate::error::{Error, ExitCode};
use crate::stage::pretrain;
use crate::stage::{self, Order};

/// What a rank needs besides its place.
#[derive(clap::Args, Clone, Debug)]
pub struct StageArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Number of this attempt; by default one more than any checkpoint's
    #[arg(long, env = env::ATTEMPT)]
    pub attempt: Option<u32>,
    /// First and other gradient bucket sizes of DDP in bytes
    #[arg(long, hide = true, value_name = "FIRST,OTHER", value_parser = parse_buckets, default_value = "1048576,26214400")]
    pub bucket_bytes: (usize, usize),
}

impl StageArgs {
    /// The same arguments for a rank.
    pub fn pass_on(&self) -> Vec<String> {
        let mut arguments = self.file.pass_on();
        if let Some(attempt) = self.attempt {
            arguments.extend(["--attempt".to_owned(), attempt.to_string()]);
        }
        let (first, other) = self.bucket_bytes;
        arguments.extend(["--bucket-bytes".to_owned(), format!("{first},{other}")]);
        arguments
    }
}

fn parse_buckets(text: &str) -> Result<(usize, usize), String> {
    let parts: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
    match parts.as_deref() {
        Ok([first, other]) if *first > 0 && *other > 0 => Ok((*first, *other)),
        _ => Err("expected two sizes in bytes, as in 1048576,26214400".into()),
    }
}

/// How long an agent waits for what.
#[derive(clap::Args, Clone, Debug)]
pub struct Patience {
    /// Seconds to wait for the other nodes, and for peers in a collective
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub rendezvous_timeout: u64,
    /// Seconds of silence of all ranks after which they are taken for hung; three times as many in the first step, in
    /// checkpoints and in evaluations
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub stall_timeout: u64,
    /// Seconds that the ranks have for a checkpoint after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 100)]
    pub stop_grace: u64,
}

/// Arguments of `simsiam worker`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    stage_args: StageArgs,
    /// The stage to run
    #[arg(long, value_parser = stage_names(), default_value = "pretrain")]
    stage: Stage,
    /// Nodes in all
    #[arg(long, value_parser = at_least_one())]
    nnodes: Option<usize>,
    /// Number of this node, from 0
    #[arg(long)]
    node_rank: Option<usize>,
    /// Rank processes on this node; by default one a GPU, or one
    #[arg(long, value_parser = at_least_one())]
    nproc_per_node: Option<usize>,
    /// Address of node 0
    #[arg(long, env = env::MASTER_ADDR)]
    master_addr: Option<String>,
    /// Port of node 0's rendezvous store [default: 29500]
    #[arg(long, env = env::MASTER_PORT)]
    master_port: Option<u16>,
    /// tcp://host:port of node 0, with --world-size and --rank counting nodes
    #[arg(long, value_name = "URL")]
    dist_url: Option<String>,
    /// Nodes in all (the reference's name for --nnodes)
    #[arg(long, value_parser = at_least_one())]
    world_size: Option<usize>,
    /// Number of this node (the reference's name for --node-rank)
    #[arg(long)]
    rank: Option<usize>,
    /// libtorch's threads in each rank; by default the machine's cores over its ranks
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads_per_rank: Option<u32>,
    /// Where /metrics, /progress and /healthz are served
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], METRICS_PORT)))]
    metrics_addr: SocketAddr,
    /// Where the termination message goes, if its folder exists
    #[arg(long, value_name = "PATH", default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
    #[command(flatten)]
    patience: Patience,
}

/// Parses the names of stages.
fn stage_names() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.map(Stage::name)).try_map(|name| name.parse::<Stage>())
}

/// Parses numbers of processes.
pub fn at_least_one() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..)
}

/// A number in the environment; torchrun and Slurm set them.
fn number(name: &str) -> Result<Option<usize>, Error> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => {
            text.parse().map(Some).map_err(|_| Error::Usage(format!("{name}={text} in the environment is no number")))
        }
    }
}

/// Cores over ranks, at least one.
pub fn default_threads(nproc: usize) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores / nproc.max(1)).unwrap_or(1).max(1)
}

/// `simsiam worker`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let outcome = attempt(args);
    // Without ranks there is no message of theirs: what stopped this agent is the termination message.
    if let Err(e) = &outcome {
        write_termination_message(args, &Outcome::from(e), &RunStatus::new("")?);
    }
    let outcome = outcome?;
    match outcome.code {
        ExitCode::Done => Ok(()),
        code => Err(Error::Rank { code, message: outcome.message }),
    }
}

fn attempt(args: &Args) -> Result<Outcome, Error> {
    let run = args.stage_args.file.load()?;
    let asked = Asked {
        nnodes: args.nnodes,
        node_rank: args.node_rank,
        nproc: args.nproc_per_node,
        master_addr: args.master_addr.clone(),
        master_port: args.master_port,
        dist_url: args.dist_url.clone(),
        world_size: args.world_size,
        rank: args.rank,
        env_world_size: number(env::WORLD_SIZE)?,
        env_rank: number(env::RANK)?,
        env_local_rank: number(env::LOCAL_RANK)?,
    };
    let topology = Topology::resolve(&asked, device::count())?;
    if let Some(p) = run.recipe.pretrain.as_ref().filter(|_| args.stage == Stage::Pretrain) {
        pretrain::micro_batch(p, topology.world)?;
    }
    let threads = args.threads_per_rank.or(run.threads_per_rank()).unwrap_or_else(|| default_threads(topology.nproc));
    let spec = Spec {
        stage: args.stage,
        topology,
        arguments: args.stage_args.pass_on(),
        threads,
        rendezvous_timeout: Duration::from_secs(args.patience.rendezvous_timeout),
        stall_timeout: Duration::from_secs(args.patience.stall_timeout),
        grace: Duration::from_secs(10),
        stop_grace: Duration::from_secs(args.patience.stop_grace),
    };
    let board = RunStatus::new(&run.name)?;
    board.begin(spec.stage.name());
    let runtime = tokio::runtime::Runtime::new().map_err(Error::io("the async runtime"))?;
    let begun = Instant::now();
    // The ranks ask the kernel to end with the thread that started them: this one, which stays.
    let outcome = runtime.block_on(async {
        http::serve(args.metrics_addr, board.clone()).await?;
        supervise(&spec, &board).await
    })?;
    board.end();
    write_termination_message(args, &outcome, &board);
    if outcome.code == ExitCode::Done && spec.topology.hosts_store() {
        // The stage is done, and its results are in the termination message, whatever becomes of this copy.
        if let Err(e) = local::record(&run, spec.stage, outcome.result.clone(), begun.elapsed(), &runtime) {
            tracing::warn!("the results were not added to result.json: {e}");
        }
    }
    Ok(outcome)
}

fn write_termination_message(args: &Args, outcome: &Outcome, board: &RunStatus) {
    if args.termination_log.parent().is_some_and(|p| p.exists()) && inside_container(&args.termination_log) {
        termination::write(&args.termination_log, &termination::message(outcome, &board.progress()));
    }
}

/// Kubernetes makes the default file; elsewhere /dev is not ours to write into.
fn inside_container(path: &std::path::Path) -> bool {
    path.exists() || !path.starts_with("/dev")
}

/// Arguments of `simsiam rank`.
#[derive(clap::Args)]
pub struct RankArgs {
    #[arg(long, value_parser = stage_names())]
    stage: Stage,
    #[command(flatten)]
    stage_args: StageArgs,
    #[command(flatten)]
    weights: WeightsArgs,
}

/// `simsiam rank`.
pub fn execute_rank(args: &RankArgs) -> Result<(), Error> {
    let run = args.stage_args.file.load()?;
    let (attempt, buckets) = (args.stage_args.attempt, args.stage_args.bucket_bytes);
    let text = args.stage_args.file.text()?;
    let weights = args.weights.weights.clone();
    stage::run(&Order { stage: args.stage, name: run.name, recipe: run.recipe, text, attempt, buckets, weights })
}
