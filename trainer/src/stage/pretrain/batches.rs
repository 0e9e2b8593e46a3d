//! What a step is made of: one batch of two views of each image, or two (`ablation: asymmetricDouble`).

use std::time::Duration;

use simsiam_data::{Batch, Loader};

use crate::error::Error;

/// Loaders of the same samples in the same order, each with a pair of views of its own.
pub(super) struct Batches(Vec<Loader>);

impl Batches {
    pub(super) fn new(loaders: Vec<Loader>) -> Self {
        Self(loaders)
    }

    /// The next batch, once for each pair of views.
    pub(super) fn next(&mut self) -> Option<Result<Vec<Batch>, Error>> {
        self.0.iter_mut().map(|loader| loader.next().map(|batch| batch.map_err(Error::from))).collect()
    }

    /// Hands the buffers back.
    pub(super) fn recycle(&self, batches: Vec<Batch>) {
        self.0.iter().zip(batches).for_each(|(loader, batch)| loader.recycle(batch));
    }

    /// How long `next` has been waiting for data so far.
    pub(super) fn wait(&self) -> Duration {
        self.0.iter().map(Loader::wait).sum()
    }
}
