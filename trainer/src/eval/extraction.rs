//! Features of a whole data set: every image once, in its evaluation view, divided over the ranks.

use std::sync::Arc;

use simsiam_data::{EvalLoader, EvalView, Source};
use tch::Tensor;

use crate::dist::rank::Rank;
use crate::error::Error;
use crate::telemetry::event::Event;

/// One pass over a data set.
pub struct FeatureExtraction<'a> {
    /// The images.
    pub source: &'a Arc<dyn Source>,
    /// Their evaluation view.
    pub view: EvalView,
    /// Images of a forward pass, over all ranks together.
    pub batch: usize,
    /// Decoding threads of this rank.
    pub loader_threads: usize,
    /// What is extracted, as shown in progress and logs.
    pub what: &'a str,
}

/// Features of a batch of images.
pub struct FeatureBatch {
    /// Ids of the images.
    pub ids: Vec<u64>,
    /// Classes of the images, if labelled.
    pub labels: Vec<Option<u32>>,
    /// The computed values, one row per image.
    pub values: Tensor,
}

impl FeatureExtraction<'_> {
    /// Applies `of` to batches `[N, 3, S, S]` of this rank's contiguous share of the images and passes the rows to `take`, in
    /// order of ids. An unreadable image is skipped with a warning that names it.
    ///
    /// # Errors
    /// [`Error::Terminated`] on every rank if one of them received SIGTERM; those of loading, `of` and `take`.
    pub fn run(
        &self,
        rank: &Rank,
        of: impl Fn(&Tensor) -> Result<Tensor, Error>,
        mut take: impl FnMut(FeatureBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let world = rank.info.world;
        let share = |r: usize| (self.source.len() * r / world) as u64;
        let range = share(rank.info.rank)..share(rank.info.rank + 1);
        let (mut done, total) = (0, range.end - range.start);
        let batch = self.batch.div_ceil(world);
        let mut loader = EvalLoader::new(self.source.clone(), self.view.clone(), range, batch, self.loader_threads)?;
        while let Some(batch) = loader.next() {
            // The sum after this loop lets all ranks agree on the stop.
            if rank.stop_requested() {
                break;
            }
            let batch = batch?;
            for skipped in &batch.skipped {
                tracing::warn!("{}: skipped {}: {}", self.what, skipped.name, skipped.reason);
            }
            done += (batch.ids.len() + batch.skipped.len()) as u64;
            if batch.ids.is_empty() {
                continue;
            }
            let shape = batch.shape.map(|n| n as i64);
            let images = Tensor::f_from_slice(&batch.images)?.f_reshape(shape)?.f_to_device(rank.device)?;
            let values = tch::no_grad(|| of(&images))?;
            take(FeatureBatch { ids: batch.ids.clone(), labels: batch.labels.clone(), values })?;
            loader.recycle(batch);
            if rank.is_first() {
                rank.sink.send(&Event::Evaluated { done, of: total, what: self.what.to_owned() });
            }
        }
        let stop = f64::from(u8::from(rank.stop_requested()));
        if rank.all_reduce_sum(&[stop], self.what)?[0] > 0.0 {
            return Err(Error::Terminated);
        }
        Ok(())
    }
}

/// Returns the classes of a batch as a tensor's values; `field` is the part of the run that needs them.
pub fn classes_of(rows: &FeatureBatch, source: &dyn Source, field: &str) -> Result<Vec<i64>, Error> {
    let class = |(id, label): (&u64, &Option<u32>)| label.map(i64::from).ok_or_else(|| unlabelled(source, *id, field));
    rows.ids.iter().zip(&rows.labels).map(class).collect()
}

/// The error for an image without a class where one is needed.
pub fn unlabelled(source: &dyn Source, id: u64, field: &str) -> Error {
    let name = source.name(id);
    Error::config(field, format!("{name} has no class; it needs class folders in dataset.train and dataset.val"))
}

/// The error for a data set of which no image could be read.
pub fn unreadable(source: &dyn Source, purpose: &str) -> Error {
    Error::Data(simsiam_data::Error::NothingReadable {
        samples: source.len(),
        name: source.name(source.len().saturating_sub(1) as u64).to_owned(),
        reason: format!("no image is left to {purpose}; the warnings above give the reasons"),
    })
}
