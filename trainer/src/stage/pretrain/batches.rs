//! What a step is made of: one batch of two views of each image, or two (`ablation: asymmetricDouble`).

use std::rc::Rc;
use std::time::Duration;

use simsiam_data::{Batch, Loader};
use tch::{Device, Tensor};

use crate::data::photometric::Photometric;
use crate::dist::device;
use crate::error::Error;
use crate::training::task::{Batches, Loaded};

/// Two views of a batch of images, each `[N, C, S, S]`.
pub(super) type Views = [Tensor; 2];

/// Loaders of the same samples in the same order, each with a pair of views of its own.
pub(super) struct ViewBatches {
    loaders: Vec<Loader>,
    /// Does what the loaders leave to the device, if they leave anything.
    photometric: Option<Rc<Photometric>>,
    device: Device,
}

impl ViewBatches {
    pub(super) fn new(loaders: Vec<Loader>, photometric: Option<Rc<Photometric>>, device: Device) -> Self {
        Self { loaders, photometric, device }
    }

    /// View `i` of a batch on the device, normalised.
    fn view(&self, batch: &Batch, i: usize) -> Result<Tensor, Error> {
        let [n, channels, height, width] = batch.shape.map(|n| n as i64);
        match &self.photometric {
            None => {
                let view = Tensor::f_from_slice(&batch.views[i])?.f_reshape([n, channels, height, width])?;
                device::upload(&view, self.device)
            }
            Some(photometric) => {
                let crops = Tensor::f_from_slice(&batch.crops[i])?.f_reshape([n, height, width, channels])?;
                photometric.apply(&device::upload(&crops, self.device)?, &batch.params[i])
            }
        }
    }
}

impl Batches for ViewBatches {
    type Batch = Vec<Views>;

    /// The next batch, once for each pair of views.
    fn next(&mut self) -> Result<Option<Loaded<Vec<Views>>>, Error> {
        let batches: Option<Result<Vec<Batch>, _>> = self.loaders.iter_mut().map(Loader::next).collect();
        let Some(batches) = batches else { return Ok(None) };
        let mut batches = batches?;
        // Two pairs of views are of the same images, so the first batch names all.
        let replaced = batches.first_mut().map(|batch| std::mem::take(&mut batch.replaced)).unwrap_or_default();
        let pair = |batch: &Batch| Ok([self.view(batch, 0)?, self.view(batch, 1)?]);
        let ids = batches.first().map(|batch| batch.ids.clone()).unwrap_or_default();
        let views = batches.iter().map(pair).collect::<Result<_, Error>>()?;
        self.loaders.iter().zip(batches).for_each(|(loader, batch)| loader.recycle(batch));
        Ok(Some(Loaded { batch: views, ids, replaced }))
    }

    fn wait(&self) -> Duration {
        self.loaders.iter().map(Loader::wait).sum()
    }
}

/// Micro-batch `i` of `count` equal ones.
pub(super) fn micro_batch_of(views: &Views, i: i64, count: i64) -> Result<Views, Error> {
    let n = views[0].size()[0] / count;
    Ok([views[0].f_narrow(0, i * n, n)?, views[1].f_narrow(0, i * n, n)?])
}
