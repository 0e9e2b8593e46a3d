//! Flags of every command that starts ranks.

use std::time::Duration;

use simsiam_contract::names::env;
use simsiam_recipe::{RunFile, Stage};

use super::file::FileArgs;
use crate::agent::Timeouts;
use crate::dist::BucketSizes;
use crate::error::Error;
use crate::stage::StageRequest;

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct StageArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Number of this attempt [default: one more than the highest earlier number]
    #[arg(long, env = env::ATTEMPT)]
    pub attempt: Option<u32>,
    /// Sizes in bytes of DDP's first gradient bucket and of the others
    #[arg(long, hide = true, value_name = "FIRST,OTHER", default_value_t)]
    pub bucket_bytes: BucketSizes,
}

impl StageArgs {
    /// The request for one stage of `run`, which [`FileArgs::load`] loaded.
    pub fn request(&self, run: &RunFile, stage: Stage, weights: Option<&str>) -> Result<StageRequest, Error> {
        Ok(StageRequest {
            stage,
            run: run.name.clone(),
            recipe: run.recipe.clone(),
            text: self.file.text()?,
            attempt: self.attempt,
            bucket_sizes: self.bucket_bytes,
            weights: weights.map(str::to_owned),
        })
    }
}

/// How long to wait.
#[derive(clap::Args, Clone, Debug)]
pub struct TimeoutArgs {
    /// Seconds to wait for the other nodes, and for peers in a collective
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub rendezvous_timeout: u64,
    /// Seconds without a report from any rank after which the ranks count as hung; three times as long during the
    /// first step, checkpoints and evaluations
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub stall_timeout: u64,
    /// Seconds allowed for the ranks to write a checkpoint after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 100)]
    pub stop_grace: u64,
}

impl TimeoutArgs {
    /// The bounds for the agent.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            rendezvous: Duration::from_secs(self.rendezvous_timeout),
            stall: Duration::from_secs(self.stall_timeout),
            stop_grace: Duration::from_secs(self.stop_grace),
        }
    }
}

/// Parses a number of ranks or nodes.
pub fn at_least_one() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..)
}

/// Parses a number of threads.
pub fn threads() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}
