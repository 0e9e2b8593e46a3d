//! `simsiam knn`.

use simsiam_contract::KnnScore;

use super::file::FileArgs;
use super::stage::threads;
use super::weights::WeightsArgs;
use crate::agent::topology::default_threads;
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::runtime;
use crate::stage;
use crate::storage::Storage;

/// Arguments of `simsiam knn`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Also evaluate raw pixels
    #[arg(long)]
    pixels: bool,
    /// libtorch threads [default: the machine's cores]
    #[arg(long, value_parser = threads())]
    threads: Option<u32>,
}

/// Runs `simsiam knn`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let run = args.file.load()?;
    let rank = Rank::alone(args.threads.unwrap_or_else(|| default_threads(1)))?;
    let runtime = runtime::start()?;
    let storage = Storage::open(&run.recipe.output, runtime.handle().clone())?;
    let weights = args.weights.open(&run.recipe.output, runtime.handle())?;
    let result = stage::knn::run(&rank, &run.recipe, &storage, weights.as_ref(), args.pixels)?;
    println!("kNN top-1 of {}", result.checkpoint.unwrap_or_default());
    let rows = [("trained", result.knn), ("untrained", result.knn_untrained), ("raw pixels", result.knn_pixels)];
    for (name, scores) in rows {
        if let Some(scores) = scores {
            println!("  {name:<10} {}", scores.iter().map(show).collect::<Vec<_>>().join("   "));
        }
    }
    Ok(())
}

fn show(score: &KnnScore) -> String {
    let caveat = score.caveat.as_ref().map_or_else(String::new, |caveat| format!("; {caveat}"));
    format!("{:5.2} % (k={}, T={}{caveat})", score.top1, score.k, score.temperature)
}
