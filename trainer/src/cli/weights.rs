//! `--weights`, of every command that evaluates or uses a backbone.

use simsiam_recipe::Output;
use tokio::runtime::Handle;

use crate::error::Error;
use crate::weights::{self, Weights};

/// What to use instead of the run's latest checkpoint.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct WeightsArgs {
    /// Weights to use instead of the run's latest checkpoint: any file or folder that `simsiam convert` reads, by path
    /// or address
    #[arg(long, value_name = "FILE|URI")]
    pub weights: Option<String>,
}

impl WeightsArgs {
    /// Reads the weights, if there are any; an address is reached like the run's output.
    pub fn open(&self, output: &Output, runtime: &Handle) -> Result<Option<Weights>, Error> {
        weights::open_in_place(self.weights.as_deref(), output, runtime)
    }
}
