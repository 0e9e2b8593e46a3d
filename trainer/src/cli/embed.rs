//! `simsiam embed`.

use std::path::PathBuf;

use simsiam_recipe::Recipe;
use tch::Kind;

use super::bar::Bar;
use super::file::FileArgs;
use super::weights::WeightsArgs;
use super::worker::default_threads;
use crate::checkpoint::{Checkpoints, snapshot};
use crate::data::datasets::{Datasets, eval_view, loader_threads};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::embedding::{Row, Table};
use crate::eval::extraction::FeatureExtraction;
use crate::model::{Pass, SimSiam};
use crate::storage::Storage;
use crate::weights::Weights;

/// Arguments of `simsiam embed`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// The Parquet file to write: columns path, label (where there are classes) and vector
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    weights: WeightsArgs,
    /// The images
    #[arg(long, value_enum, default_value_t = Part::Val)]
    part: Part,
    /// What becomes a vector: the backbone's features, or the projections that the loss compares
    #[arg(long, value_enum, default_value_t = Layer::Backbone)]
    layer: Layer,
    /// Images of a forward pass
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// libtorch's threads; by default the machine's cores
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Train,
    Val,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Layer {
    Backbone,
    Projector,
}

/// `simsiam embed`.
pub fn execute(args: &Args) -> Result<(), Error> {
    let run = args.file.load()?;
    let recipe: &Recipe = &run.recipe;
    let Some(pretrain) = &recipe.pretrain else {
        return Err(Error::config("spec.pretrain", "missing; it describes the encoder whose features are asked for"));
    };
    let rank = Rank::alone(args.threads.unwrap_or_else(|| default_threads(1)))?;
    let runtime = tokio::runtime::Runtime::new().map_err(Error::io("the async runtime"))?;
    let storage = Storage::open(&recipe.output, runtime.handle().clone())?;
    let datasets = Datasets::new(recipe, runtime.handle().clone());
    let source = match args.part {
        Part::Train => datasets.train()?,
        Part::Val => {
            let train = datasets.train()?;
            datasets.val(train.classes())?
        }
    };
    let model = SimSiam::new(pretrain, Kind::Float, rank.device)?;
    let uri = match args.weights.open(&recipe.output, runtime.handle())? {
        Some(weights) => fill(&model, weights, args.layer)?,
        None => {
            let found = Checkpoints::new(storage.clone()).require_latest("embed with")?;
            snapshot::restore_model(model.params(), &found.model, &found.uri)?;
            found.uri
        }
    };

    let facts = [("checkpoint", uri.as_str()), ("arch", pretrain.arch.name())];
    let mut table = Table::create(&args.output, &facts)?;
    let mut bar = Bar::new("images embedded");
    let sweep = FeatureExtraction {
        source: &source,
        view: eval_view(&pretrain.augment),
        batch: args.batch_size as usize,
        loader_threads: loader_threads(&recipe.dataset, rank.info.threads),
        what: "embedding",
    };
    let vectors = |images: &tch::Tensor| match args.layer {
        Layer::Backbone => model.features(images, Pass::EVAL),
        Layer::Projector => model.project(images, Pass::EVAL),
    };
    let mut written = 0;
    sweep.run(&rank, vectors, |rows| {
        let width = rows.values.size()[1] as usize;
        let values = Vec::<f32>::try_from(&rows.values.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?;
        let parts = rows.ids.iter().zip(&rows.labels).zip(values.chunks_exact(width));
        let rows: Vec<Row> = parts
            .map(|((id, label), vector)| Row {
                path: source.name(*id),
                label: label.and_then(|label| source.classes().get(label as usize)).map(String::as_str),
                vector,
            })
            .collect();
        table.append(&rows)?;
        written += rows.len();
        bar.show(written, source.len());
        Ok(())
    })?;
    bar.finish();
    table.finish()?;
    println!("{}: {written} vectors of {uri}", args.output.display());
    Ok(())
}

/// Takes other weights as far as the layer needs them, and gives their address.
fn fill(model: &SimSiam, weights: Weights, layer: Layer) -> Result<String, Error> {
    match layer {
        Layer::Backbone => weights.fill_simsiam_backbone(model.params())?,
        Layer::Projector if weights.fill_network(model.params())?.projector => {}
        Layer::Projector => {
            let message = "has no projector; leave --layer projector out, or give weights that have one".to_owned();
            return Err(Error::Checkpoint { uri: weights.uri, message });
        }
    }
    Ok(weights.uri)
}
