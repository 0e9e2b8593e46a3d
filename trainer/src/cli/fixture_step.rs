//! `simsiam fixture-step`: a parity fixture's training steps in fp32 on whatever device is here, for the GPU check.

use std::path::PathBuf;

use tch::Kind;

use crate::checkpoint::snapshot;
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::training::fixture::Fixture;

/// Arguments of `simsiam fixture-step`.
#[derive(clap::Args)]
pub struct Args {
    /// `<case>.inputs.safetensors`
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Where the results go, named as in `<case>.f32.safetensors`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `simsiam fixture-step`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let rank = Rank::alone(1)?;
    let found = Fixture::read(&args.inputs)?.train(Kind::Float, rank.device)?;
    let file = snapshot::tensor_file(found.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    std::fs::write(&args.out, file).map_err(Error::io(&args.out))
}
