//! The batches that a classifier is trained on: augmented images, or features that were computed once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use simsiam_data::{EvalView, Loader, LoaderOptions, Source, TwoViews, permutation, rank_slice};
use tch::{Device, Tensor};

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::eval::extraction::{FeatureExtraction, classes_of, unlabelled};
use crate::model::Classifier;
use crate::model::Pass;
use crate::training::task::{Batches, Loaded};

/// One rank's share of a global batch.
pub struct Labelled {
    /// Images `[N, C, S, S]`, or features `[N, F]`.
    pub input: Tensor,
    /// Their classes, `[N]`.
    pub classes: Tensor,
}

/// The batches of one epoch.
pub struct LabelledBatches {
    from: From,
    device: Device,
}

enum From {
    /// Images that are read, decoded and augmented when they are needed.
    Images {
        loader: Box<Loader>,
        /// For the names of images without a class.
        source: Arc<dyn Source>,
        /// The field of the run that needs classes.
        field: &'static str,
    },
    /// Features of a table: this rank's rows, one batch each.
    Features { table: Rc<Table>, rows: std::vec::IntoIter<Vec<i64>> },
}

impl LabelledBatches {
    /// One random crop of each image, flipped or not.
    pub fn images(
        source: Arc<dyn Source>,
        views: TwoViews,
        options: LoaderOptions,
        field: &'static str,
        device: Device,
    ) -> Result<Self, Error> {
        let loader = Box::new(Loader::one_view(source.clone(), views, options)?);
        Ok(Self { from: From::Images { loader, source, field }, device })
    }

    /// The rows of a table in the epoch's order, which is that of images.
    pub fn features(table: Rc<Table>, options: &LoaderOptions, device: Device) -> Self {
        let order = permutation(options.seed, options.epoch, table.classes.size()[0] as usize);
        let rows: Vec<Vec<i64>> = order
            .chunks(options.batch)
            .skip(options.first_batch)
            .map(|batch| {
                let slice = rank_slice(batch.len(), options.rank, options.world);
                batch[slice].iter().map(|row| i64::from(*row)).collect()
            })
            .collect();
        Self { from: From::Features { table, rows: rows.into_iter() }, device }
    }
}

impl Batches for LabelledBatches {
    type Batch = Labelled;

    fn next(&mut self) -> Result<Option<Loaded<Labelled>>, Error> {
        match &mut self.from {
            From::Images { loader, source, field } => {
                let Some(batch) = loader.next() else { return Ok(None) };
                let mut batch = batch?;
                let replaced = std::mem::take(&mut batch.replaced);
                let class = |(id, label): (&u64, &Option<u32>)| {
                    label.map(i64::from).ok_or_else(|| unlabelled(&**source, *id, field))
                };
                let classes: Vec<i64> = batch.ids.iter().zip(&batch.labels).map(class).collect::<Result<_, _>>()?;
                let shape = batch.shape.map(|n| n as i64);
                let images = Tensor::f_from_slice(&batch.views[0])?.f_reshape(shape)?;
                let input = crate::dist::device::upload(&images, self.device)?;
                let classes = Tensor::f_from_slice(&classes)?.f_to_device(self.device)?;
                let ids = batch.ids.clone();
                loader.recycle(batch);
                Ok(Some(Loaded { batch: Labelled { input, classes }, ids, replaced }))
            }
            From::Features { table, rows } => {
                let Some(rows) = rows.next() else { return Ok(None) };
                let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.device)?;
                let input = table.features.f_index_select(0, &rows)?;
                let classes = table.classes.f_index_select(0, &rows)?;
                Ok(Some(Loaded { batch: Labelled { input, classes }, ids: Vec::new(), replaced: Vec::new() }))
            }
        }
    }

    fn wait(&self) -> Duration {
        match &self.from {
            From::Images { loader, .. } => loader.wait(),
            From::Features { .. } => Duration::ZERO,
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
    /// Computes the features, `[N, F]`; the ranks share the work. They take 4·N·F bytes on the device of each rank.
    pub fn new(
        rank: &Rank,
        network: &Classifier,
        source: &Arc<dyn Source>,
        view: EvalView,
        batch: usize,
        loader_threads: usize,
    ) -> Result<Self, Error> {
        // The caller refuses a table that lacks any image.
        let max_corrupt = u64::MAX;
        let sweep = FeatureExtraction { source, view, batch, loader_threads, max_corrupt, what: "train features" };
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

    /// Number of images.
    pub fn len(&self) -> usize {
        self.classes.size()[0] as usize
    }

    /// Whether it is empty: no image could be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
