//! `simsiam run`, and the commands that run one of its stages.

use std::net::SocketAddr;

use simsiam_recipe::Stage;

use super::stage::{StageArgs, TimeoutArgs, at_least_one, threads};
use super::weights::WeightsArgs;
use crate::agent::local::{self, LocalOptions};
use crate::error::Error;

/// Arguments of `simsiam run`, and of `linear` and `finetune` with others.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    stage_args: StageArgs,
    /// Number of ranks [default: one per GPU, or one]
    #[arg(long, value_parser = at_least_one())]
    nproc: Option<usize>,
    /// Number of GPUs required; exits with code 78 if there are fewer
    #[arg(long, default_value_t = 0)]
    gpus: usize,
    /// libtorch threads of each rank [default: the machine's cores divided by its ranks]
    #[arg(long, value_parser = threads())]
    threads_per_rank: Option<u32>,
    /// Address to serve /metrics and /progress on [default: 127.0.0.1:9400, or any free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    timeouts: TimeoutArgs,
}

/// Arguments of `simsiam linear` and `finetune`.
#[derive(clap::Args)]
pub struct ClassifierArgs {
    #[command(flatten)]
    run: Args,
    #[command(flatten)]
    weights: WeightsArgs,
}

/// Runs `simsiam run`.
pub fn execute(args: &Args) -> Result<(), Error> {
    start(args, None, &WeightsArgs::default())
}

/// Runs one stage alone, on the run's latest checkpoint or on other weights.
pub fn execute_stage(args: &ClassifierArgs, stage: Stage) -> Result<(), Error> {
    start(&args.run, Some(stage), &args.weights)
}

fn start(args: &Args, only: Option<Stage>, weights: &WeightsArgs) -> Result<(), Error> {
    let run = args.stage_args.file.load()?;
    let tracker = run.recipe.track.as_ref().and_then(|track| track.mlflow.credentials_secret.as_ref());
    let credentials = [
        run.recipe.output.credentials_secret.as_ref().map(|_| "output.credentialsSecret"),
        tracker.map(|_| "track.mlflow.credentialsSecret"),
    ];
    for field in run.cluster_only.keys().map(String::as_str).chain(credentials.into_iter().flatten()) {
        tracing::info!("spec.{field} is for clusters only and ignored here");
    }
    let stages = only.map_or_else(|| run.recipe.stages(), |stage| vec![stage]);
    let request = |stage: Stage| args.stage_args.request(&run, stage, weights.weights.as_deref());
    let requests = stages.into_iter().map(request).collect::<Result<Vec<_>, _>>()?;
    local::execute(
        &requests,
        &LocalOptions {
            nproc: args.nproc.or((args.gpus > 0).then_some(args.gpus)),
            gpus: args.gpus,
            threads_per_rank: args.threads_per_rank.or(run.threads_per_rank()),
            metrics_addr: args.metrics_addr,
            timeouts: args.timeouts.timeouts(),
        },
    )
}
