//! `simsiam fixture-step`, for the GPU check.

use std::path::PathBuf;

use crate::error::Error;
use crate::training::fixture;

/// Arguments of `simsiam fixture-step`.
#[derive(clap::Args)]
pub struct Args {
    /// Fixture to read, `<case>.inputs.safetensors`
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// File to write the results to, named as in `<case>.f32.safetensors`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs `simsiam fixture-step`.
pub fn execute(args: &Args) -> Result<(), Error> {
    fixture::repeat(&args.inputs, &args.out)
}
