//! A range of a source's samples in order of their ids, for evaluation.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rayon::ThreadPool;

use super::batch::{EvalBatch, Skipped};
use super::lanes::{Lanes, Make, share_out};
use super::options::check_threads;
use super::sample::{Bad, Decoded, Scratch, ScratchPool};
use crate::ops::Normalize;
use crate::{Error, EvalView, Source};

/// The samples of a range in batches, in order; the last batch may be smaller.
///
/// Unreadable samples are left out and named in [`EvalBatch::skipped`]; how many are too many is the caller's to say.
#[derive(Debug)]
pub struct EvalLoader {
    lanes: Lanes<EvalBatch>,
    spare: Arc<Spare>,
}

type Spare = Mutex<Vec<EvalBatch>>;

/// Batches made ahead of their use.
const PREFETCH: usize = 2;

impl EvalLoader {
    /// Starts loading the samples of `range`, cut to the source's length, `batch` at a time with `threads` workers.
    ///
    /// # Errors
    /// [`Error::Option`] for an option out of range, [`Error::Worker`] when a thread cannot be started.
    pub fn new(
        source: Arc<dyn Source>,
        view: EvalView,
        range: Range<u64>,
        batch: usize,
        threads: usize,
    ) -> Result<Self, Error> {
        view.check()?;
        check_threads(threads)?;
        if batch == 0 {
            return Err(Error::option("batch", 0, "at least 1"));
        }
        let end = range.end.min(source.len() as u64);
        let range = range.start.min(end)..end;
        let batches = ((range.end - range.start) as usize).div_ceil(batch);
        let spare = Arc::new(Spare::default());
        let maker = Maker {
            normalize: Normalize::new(&view.mean, &view.std),
            scratch: ScratchPool::new(threads, false, source.decode_options().of_channels(view.channels())),
            spare: Arc::clone(&spare),
            source,
            view,
            range,
            batch,
        };
        Ok(Self { lanes: Lanes::start(maker, 0, batches, threads, PREFETCH)?, spare })
    }

    /// How long `next` has been waiting for data so far.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.lanes.waited()
    }

    /// Hands a batch's buffers back for later batches.
    pub fn recycle(&self, batch: EvalBatch) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
    }
}

impl Iterator for EvalLoader {
    type Item = Result<EvalBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lanes.next()
    }
}

struct Maker {
    source: Arc<dyn Source>,
    view: EvalView,
    normalize: Normalize,
    range: Range<u64>,
    batch: usize,
    scratch: ScratchPool,
    spare: Arc<Spare>,
}

impl Make for Maker {
    type Output = EvalBatch;

    fn make(&self, index: usize, pool: &ThreadPool, stop: &AtomicBool) -> Option<Result<EvalBatch, Error>> {
        let start = self.range.start + (index * self.batch) as u64;
        let ids = start..self.range.end.min(start + self.batch as u64);
        // All of them at once, before the threads come to them one by one.
        self.source.prefetch(&ids.clone().collect::<Vec<_>>());
        let count = (ids.end - ids.start) as usize;
        let plane = self.view.channels() * self.view.crop as usize * self.view.crop as usize;
        let mut batch = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        batch.images.resize(count * plane, 0.0);
        let mut outcomes: Vec<Option<Result<Decoded, Error>>> = Vec::new();
        outcomes.resize_with(count, || None);
        let items = ids.clone().zip(&mut outcomes).zip(batch.images.chunks_exact_mut(plane));
        share_out(pool, stop, items, |((id, outcome), planes)| {
            *outcome = Some(self.fill(&mut self.scratch.mine(), id, planes));
        });
        let outcomes: Result<Vec<Decoded>, Error> = outcomes.into_iter().collect::<Option<_>>()?;
        Some(outcomes.map(|outcomes| self.finish(batch, ids, plane, outcomes)))
    }
}

impl Maker {
    fn fill(&self, scratch: &mut Scratch, id: u64, planes: &mut [f32]) -> Result<Decoded, Error> {
        let loaded = scratch.load(&*self.source, id)?;
        if matches!(loaded, Decoded::Image) {
            let Scratch { part, renderer, .. } = scratch;
            renderer.eval_of_part(part, &self.view, &self.normalize, planes);
        }
        Ok(loaded)
    }

    /// Closes the gaps that unreadable samples left.
    fn finish(&self, mut batch: EvalBatch, ids: Range<u64>, plane: usize, outcomes: Vec<Decoded>) -> EvalBatch {
        batch.ids.clear();
        batch.labels.clear();
        batch.skipped.clear();
        for (position, (id, outcome)) in ids.zip(outcomes).enumerate() {
            match outcome {
                Decoded::Image => {
                    let place = batch.ids.len();
                    if place < position {
                        batch.images.copy_within(position * plane..(position + 1) * plane, place * plane);
                    }
                    batch.ids.push(id);
                    batch.labels.push(self.source.label(id));
                }
                Decoded::Bad(Bad { id, name, reason }) => batch.skipped.push(Skipped { id, name, reason }),
            }
        }
        let (count, side) = (batch.ids.len(), self.view.crop as usize);
        batch.images.truncate(count * plane);
        batch.shape = [count, self.view.channels(), side, side];
        batch
    }
}
