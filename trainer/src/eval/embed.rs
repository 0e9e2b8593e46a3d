//! Writes the features of a run's images as a table.

use std::path::Path;

use simsiam_recipe::Recipe;
use tch::Kind;
use tokio::runtime::Handle;

use super::extraction::FeatureExtraction;
use super::feature_file::{Row, Table};
use crate::checkpoint::{Checkpoints, snapshot};
use crate::data::datasets::{Datasets, eval_view, loader_threads};
use crate::dist::rank::Rank;
use crate::error::Error;
use crate::model::{Pass, SimSiam};
use crate::storage::Storage;
use crate::weights::Weights;

/// Which images are embedded.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// The training images.
    Train,
    /// The validation images.
    Val,
}

/// Which vectors are written.
#[derive(Clone, Copy, Debug)]
pub enum Layer {
    /// The backbone's features.
    Backbone,
    /// The projections that the loss compares.
    Projector,
}

/// What to embed, and with which weights.
pub struct Embed<'a> {
    /// The run.
    pub recipe: &'a Recipe,
    /// Weights to use instead of the run's latest checkpoint.
    pub weights: Option<Weights>,
    /// The images.
    pub part: Part,
    /// The vectors.
    pub layer: Layer,
    /// Images per forward pass.
    pub batch: usize,
}

/// What was written.
#[derive(Debug)]
pub struct Embedded {
    /// Rows of the table.
    pub vectors: usize,
    /// Images that could not be read and have no row.
    pub unreadable: u64,
    /// Address of the weights.
    pub weights: String,
}

impl Embed<'_> {
    /// Writes the table to `output`; `progress` is called with the images done and in all.
    ///
    /// # Errors
    /// If weights or images cannot be read, or the table cannot be written.
    pub fn run(
        self,
        rank: &Rank,
        runtime: &Handle,
        output: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Embedded, Error> {
        let recipe = self.recipe;
        let Some(pretrain) = &recipe.pretrain else {
            return Err(Error::missing("spec.pretrain", "simsiam embed"));
        };
        let storage = Storage::open(&recipe.output, runtime.clone())?;
        let datasets = Datasets::new(recipe, runtime.clone());
        let source = match self.part {
            Part::Train => datasets.train()?,
            Part::Val => datasets.val_as_it_is()?,
        };
        let model = SimSiam::new(pretrain, Kind::Float, rank.device)?;
        let uri = match self.weights {
            Some(weights) => fill(&model, weights, self.layer)?,
            None => {
                let found = Checkpoints::new(storage).require_latest("embed with")?;
                snapshot::restore_model(model.params(), &found.model, &found.uri)?;
                found.uri
            }
        };
        let layer = match self.layer {
            Layer::Backbone => "backbone",
            Layer::Projector => "projector",
        };
        let facts = [("checkpoint", uri.as_str()), ("arch", pretrain.arch.name()), ("layer", layer)];
        let mut table = Table::create(output, &facts)?;
        let extraction = FeatureExtraction {
            source: &source,
            view: eval_view(&pretrain.augment),
            batch: self.batch,
            loader_threads: loader_threads(&recipe.dataset, rank.info.threads),
            // A table without some images is still a table; the log names them.
            max_corrupt: u64::MAX,
            what: "embedding",
        };
        let vectors = |images: &tch::Tensor| match self.layer {
            Layer::Backbone => model.features(images, Pass::EVAL),
            Layer::Projector => model.project(images, Pass::EVAL),
        };
        let mut written = 0;
        let unreadable = extraction.run(rank, vectors, |rows| {
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
            progress(written, source.len());
            Ok(())
        })?;
        table.finish()?;
        Ok(Embedded { vectors: written, unreadable, weights: uri })
    }
}

/// Fills the tensors that the layer needs with other weights, and returns their address.
fn fill(model: &SimSiam, weights: Weights, layer: Layer) -> Result<String, Error> {
    match layer {
        Layer::Backbone => weights.fill_simsiam_backbone(model.params())?,
        Layer::Projector if weights.fill_network(model.params())?.projector => {}
        Layer::Projector => {
            let message = "has no projector; omit --layer projector, or use weights that have one".to_owned();
            return Err(Error::Checkpoint { uri: weights.uri, message });
        }
    }
    Ok(weights.uri)
}
