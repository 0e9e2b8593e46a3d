//! `--weights`, of every command that judges or uses a backbone.

use simsiam_recipe::Output;
use tokio::runtime::Handle;

use crate::error::Error;
use crate::weights::{self, Weights};

/// What to use in the place of the run's latest checkpoint.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct WeightsArgs {
    /// Weights to use in the place of the run's latest checkpoint: a checkpoint or backbone of any kind that `simsiam
    /// convert` reads, by path or address
    #[arg(long, value_name = "FILE|URI")]
    pub weights: Option<String>,
}

impl WeightsArgs {
    /// Reads them, if there are any; an address is reached as the run's output is.
    pub fn open(&self, output: &Output, runtime: &Handle) -> Result<Option<Weights>, Error> {
        weights::open_in_place(self.weights.as_deref(), output, runtime)
    }

    /// The same arguments for a rank.
    pub fn pass_on(&self) -> Vec<String> {
        self.weights.iter().flat_map(|uri| ["--weights".to_owned(), uri.clone()]).collect()
    }
}
