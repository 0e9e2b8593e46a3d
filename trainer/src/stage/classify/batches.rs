//! What a classifier is trained on: augmented images, or features that were computed once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use simsiam_data::{EvalView, Loader, LoaderOptions, Source, TwoViews, permutation, rank_slice};
use tch::Tensor;

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::extraction::{FeatureExtraction, classes_of, unlabelled};
use crate::model::Classifier;
use crate::model::Pass;

/// One rank's share of a global batch.
pub struct Labelled {
    /// Images `[N, 3, S, S]`, or features `[N, F]`.
    pub input: Tensor,
    /// Their classes, `[N]`.
    pub classes: Tensor,
    /// Replaced since they could not be read.
    pub corrupt: u64,
}

/// The batches of one epoch.
pub enum Batches {
    /// Read, decoded and augmented as they are needed.
    Images {
        /// The loader.
        loader: Box<Loader>,
        /// For the names of images without a class.
        source: Arc<dyn Source>,
        /// The field of the run that needs classes.
        field: &'static str,
    },
    /// Taken from a table.
    Features {
        /// The table.
        table: Rc<Table>,
        /// This rank's rows, a batch each.
        rows: std::vec::IntoIter<Vec<i64>>,
    },
}

impl Batches {
    /// One random crop of each image, flipped or not.
    pub fn images(
        source: Arc<dyn Source>,
        views: TwoViews,
        options: LoaderOptions,
        field: &'static str,
    ) -> Result<Self, Error> {
        Ok(Self::Images { loader: Box::new(Loader::one_view(source.clone(), views, options)?), source, field })
    }

    /// The rows of a table in the epoch's order, which is that of images.
    pub fn features(table: Rc<Table>, options: &LoaderOptions) -> Self {
        let order = permutation(options.seed, options.epoch, table.classes.size()[0] as usize);
        let rows: Vec<Vec<i64>> = order
            .chunks(options.batch)
            .skip(options.first_batch)
            .map(|batch| {
                let slice = rank_slice(batch.len(), options.rank, options.world);
                batch[slice].iter().map(|row| i64::from(*row)).collect()
            })
            .collect();
        Self::Features { table, rows: rows.into_iter() }
    }

    /// How long they have been waited for so far.
    pub fn wait(&self) -> Duration {
        match self {
            Self::Images { loader, .. } => loader.wait(),
            Self::Features { .. } => Duration::ZERO,
        }
    }

    /// The next batch on the rank's device.
    pub fn next(&mut self, rank: &Rank) -> Result<Option<Labelled>, Error> {
        match self {
            Self::Images { loader, source, field } => {
                let Some(batch) = loader.next() else { return Ok(None) };
                let batch = batch?;
                for replaced in &batch.replaced {
                    tracing::warn!("replaced {} by sample {}: {}", replaced.name, replaced.by, replaced.reason);
                }
                let class = |(id, label): (&u64, &Option<u32>)| {
                    label.map(i64::from).ok_or_else(|| unlabelled(&**source, *id, field))
                };
                let classes: Vec<i64> = batch.ids.iter().zip(&batch.labels).map(class).collect::<Result<_, _>>()?;
                let shape = batch.shape.map(|n| n as i64);
                let images = Tensor::f_from_slice(&batch.views[0])?.f_reshape(shape)?;
                let labelled = Labelled {
                    input: crate::dist::device::upload(&images, rank.device)?,
                    classes: Tensor::f_from_slice(&classes)?.f_to_device(rank.device)?,
                    corrupt: batch.replaced.len() as u64,
                };
                loader.recycle(batch);
                Ok(Some(labelled))
            }
            Self::Features { table, rows } => {
                let Some(rows) = rows.next() else { return Ok(None) };
                let rows = Tensor::f_from_slice(&rows)?.f_to_device(rank.device)?;
                let input = table.features.f_index_select(0, &rows)?;
                Ok(Some(Labelled { input, classes: table.classes.f_index_select(0, &rows)?, corrupt: 0 }))
            }
        }
    }
}

/// Features and classes of all readable training images, on every rank.
#[derive(Debug)]
pub struct Table {
    features: Tensor,
    classes: Tensor,
}

impl Table {
    /// Computes them, `[N, F]`; the ranks share the work. They take 4·N·F bytes on each rank's device.
    pub fn new(
        rank: &Rank,
        network: &Classifier,
        source: &Arc<dyn Source>,
        view: EvalView,
        batch: usize,
        loader_threads: usize,
    ) -> Result<Self, Error> {
        let sweep = FeatureExtraction { source, view, batch, loader_threads, what: "train features" };
        let none = Tensor::f_zeros([0, network.feature_width()], (tch::Kind::Float, rank.device))?;
        let (mut features, mut classes) = (vec![none], Vec::new());
        sweep.run(
            rank,
            |images| network.features(images, Pass::EVAL),
            |rows| {
                classes.extend(classes_of(&rows, &**source, "spec.linear")?);
                features.push(rows.values.f_to_kind(tch::Kind::Float)?);
                Ok(())
            },
        )?;
        let classes = Tensor::f_from_slice(&classes)?.f_to_device(rank.device)?;
        Ok(Self {
            features: rank.all_gather_rows(&Tensor::f_cat(&features, 0)?, "the features")?,
            classes: rank.all_gather_rows(&classes, "the classes")?,
        })
    }

    /// Images whose features it holds.
    pub fn len(&self) -> usize {
        self.classes.size()[0] as usize
    }

    /// Whether no image could be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
