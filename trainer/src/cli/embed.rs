//! `simsiam embed`.

use std::path::PathBuf;

use super::bar::Bar;
use super::file::FileArgs;
use super::stage::threads;
use super::weights::WeightsArgs;
use crate::agent::topology::default_threads;
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::embed::{Embed, Layer, Part};
use crate::runtime;

/// Arguments of `simsiam embed`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// Parquet file to write, with the columns path, label (if the images have classes) and vector
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Images to embed
    #[arg(long, value_enum, default_value_t = PartArg::Val)]
    part: PartArg,
    /// Vectors to write: the backbone's features, or the projections that the loss compares
    #[arg(long, value_enum, default_value_t = LayerArg::Backbone)]
    layer: LayerArg,
    /// Images per forward pass
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// libtorch threads [default: the machine's cores]
    #[arg(long, value_parser = threads())]
    threads: Option<u32>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum PartArg {
    Train,
    Val,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LayerArg {
    Backbone,
    Projector,
}

/// Runs `simsiam embed`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let run = args.file.load()?;
    let rank = Rank::alone(args.threads.unwrap_or_else(|| default_threads(1)))?;
    let runtime = runtime::start()?;
    let embed = Embed {
        recipe: &run.recipe,
        weights: args.weights.open(&run.recipe.output, runtime.handle())?,
        part: match args.part {
            PartArg::Train => Part::Train,
            PartArg::Val => Part::Val,
        },
        layer: match args.layer {
            LayerArg::Backbone => Layer::Backbone,
            LayerArg::Projector => Layer::Projector,
        },
        batch: args.batch_size as usize,
    };
    let mut bar = Bar::new("images embedded");
    let embedded = embed.run(&rank, runtime.handle(), &args.output, &mut |done, of| bar.show(done, of))?;
    bar.finish();
    let unreadable = match embedded.unreadable {
        0 => String::new(),
        images => format!(" ({images} unreadable images have none)"),
    };
    println!("{}: {} vectors{unreadable} of {}", args.output.display(), embedded.vectors, embedded.weights);
    Ok(())
}
