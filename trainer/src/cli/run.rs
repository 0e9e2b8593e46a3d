//! `simsiam run`, and the commands that run one of its stages.

use simsiam_recipe::Stage;

use std::net::SocketAddr;

use super::weights::WeightsArgs;
use super::worker::{Patience, StageArgs, at_least_one};
use crate::agent::local::{self, Local};
use crate::error::Error;

/// Arguments of `simsiam run`, and of `linear` and `finetune` with others.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    stage_args: StageArgs,
    /// Rank processes; by default one a GPU, or one
    #[arg(long, value_parser = at_least_one())]
    nproc: Option<usize>,
    /// libtorch's threads in each rank; by default the machine's cores over its ranks
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads_per_rank: Option<u32>,
    /// Where /metrics and /progress are served [default: 127.0.0.1:9400, or any free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    patience: Patience,
}

/// Arguments of `simsiam linear` and `finetune`.
#[derive(clap::Args)]
pub struct JudgeArgs {
    #[command(flatten)]
    run: Args,
    #[command(flatten)]
    weights: WeightsArgs,
}

/// `simsiam run`.
pub fn execute(args: &Args) -> Result<(), Error> {
    start(args, None, &WeightsArgs::default())
}

/// One stage alone, on the run's latest checkpoint or on other weights.
pub fn judge(args: &JudgeArgs, stage: Stage) -> Result<(), Error> {
    start(&args.run, Some(stage), &args.weights)
}

fn start(args: &Args, only: Option<Stage>, weights: &WeightsArgs) -> Result<(), Error> {
    let run = args.stage_args.file.load()?;
    local::execute(
        &run,
        &Local {
            nproc: args.nproc,
            threads_per_rank: args.threads_per_rank.or(run.threads_per_rank()),
            metrics_addr: args.metrics_addr,
            patience: args.patience.clone(),
            arguments: [args.stage_args.pass_on(), weights.pass_on()].concat(),
            of_the_run: weights.weights.is_none(),
        },
        only,
    )
}
