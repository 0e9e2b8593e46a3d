//! Two views of each sample of a rank's share of the epoch's global batches.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rayon::ThreadPool;

use super::batch::{Batch, Replaced};
use super::lanes::{Lanes, Make};
use super::sample::{Bad, Scratch, ScratchPool};
use crate::ops::Normalize;
use crate::rng::CounterRng;
use crate::{Error, Source, TwoViews, permutation, rank_slice};

/// What a [`Loader`] goes through, and how.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Samples in a global batch.
    pub batch: usize,
    /// This rank, from 0.
    pub rank: usize,
    /// Number of ranks; divides `batch`.
    pub world: usize,
    /// The first global batch to deliver, after a resume.
    pub first_batch: usize,
    /// Worker threads.
    pub threads: usize,
    /// Batches made ahead of their use; each takes `2 * 4 * 3 * S²` bytes a sample.
    pub prefetch: usize,
    /// How many distinct unreadable images this loader replaces before it gives up.
    pub max_corrupt: u64,
}

/// The batches of one epoch, in order, for one rank. The last, partial batch is dropped.
///
/// An unreadable sample is replaced by the next readable one of the epoch's permutation (cyclic), with that sample's
/// own views; [`Batch::replaced`] names it. After an error the iterator ends.
#[derive(Debug)]
pub struct Loader {
    lanes: Lanes<Made>,
    spare: Arc<Spare>,
    corrupt: HashSet<u64>,
    max_corrupt: u64,
    batches: usize,
}

type Spare = Mutex<Vec<Batch>>;

impl Loader {
    /// Starts loading.
    ///
    /// # Errors
    /// [`Error::Option`] for an option out of range, [`Error::TooFewSamples`] when the source has fewer samples than one
    /// global batch, [`Error::Worker`] when a thread cannot be started.
    pub fn two_views(source: Arc<dyn Source>, views: TwoViews, options: LoaderOptions) -> Result<Self, Error> {
        views.check()?;
        options.check(source.len())?;
        let spare = Arc::new(Spare::default());
        let batches = source.len() / options.batch;
        let maker = Maker {
            order: permutation(options.seed, options.epoch, source.len()),
            normalize: Normalize::new(views.mean, views.std),
            scratch: ScratchPool::new(options.threads),
            spare: Arc::clone(&spare),
            source,
            views,
            options,
        };
        let LoaderOptions { first_batch, threads, prefetch, max_corrupt, .. } = maker.options;
        let lanes = Lanes::start(maker, first_batch, batches, threads, prefetch)?;
        Ok(Self { lanes, spare, corrupt: HashSet::new(), max_corrupt, batches })
    }

    /// Number of global batches in the epoch, counted from batch 0.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// How long `next` has been waiting for data so far.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.lanes.waited()
    }

    /// Number of distinct unreadable samples among the batches delivered so far.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt.len() as u64
    }

    /// Hands a batch's buffers back for later batches.
    pub fn recycle(&self, batch: Batch) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
    }

    /// Counts a batch's unreadable samples, in the order of delivery, so that the verdict does not depend on timing.
    fn accept(&mut self, made: Made) -> Result<Batch, Error> {
        for bad in &made.corrupt {
            self.corrupt.insert(bad.id);
            if self.corrupt() > self.max_corrupt {
                return Err(Error::TooManyCorrupt {
                    count: self.corrupt(),
                    limit: self.max_corrupt,
                    name: bad.name.clone(),
                    reason: bad.reason.clone(),
                });
            }
        }
        Ok(made.batch)
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.lanes.next()?.and_then(|made| self.accept(made));
        if item.is_err() {
            self.lanes.finish();
        }
        Some(item)
    }
}

impl LoaderOptions {
    fn check(&self, samples: usize) -> Result<(), Error> {
        if self.batch == 0 {
            return Err(Error::option("batch", 0, "at least 1"));
        }
        if self.world == 0 || !self.batch.is_multiple_of(self.world) {
            return Err(Error::option("batch", self.batch, format!("a multiple of the world size, {}", self.world)));
        }
        if self.rank >= self.world {
            return Err(Error::option("rank", self.rank, format!("less than the world size, {}", self.world)));
        }
        if samples < self.batch {
            return Err(Error::TooFewSamples { samples, batch: self.batch });
        }
        if u32::try_from(samples).is_err() {
            return Err(Error::option("samples", samples, format!("at most {}", u32::MAX)));
        }
        let batches = samples / self.batch;
        if self.first_batch > batches {
            return Err(Error::option("first_batch", self.first_batch, format!("at most {batches}")));
        }
        check_threads(self.threads)?;
        if self.prefetch == 0 {
            return Err(Error::option("prefetch", 0, "at least 1"));
        }
        Ok(())
    }
}

pub(super) fn check_threads(threads: usize) -> Result<(), Error> {
    if (1..=1024).contains(&threads) {
        return Ok(());
    }
    Err(Error::option("threads", threads, "1 to 1024"))
}

struct Maker {
    source: Arc<dyn Source>,
    views: TwoViews,
    normalize: Normalize,
    options: LoaderOptions,
    order: Vec<u32>,
    scratch: ScratchPool,
    spare: Arc<Spare>,
}

/// A batch and the unreadable samples met on the way, in the order of their positions.
#[derive(Debug)]
pub(super) struct Made {
    batch: Batch,
    corrupt: Vec<Bad>,
}

/// What became of one position of a batch.
#[derive(Default)]
struct Outcome {
    /// The sample that is there now; none when too many in a row were unreadable.
    id: Option<u64>,
    bad: Vec<Bad>,
}

impl Make for Maker {
    type Output = Made;

    fn make(&self, index: usize, pool: &ThreadPool, stop: &AtomicBool) -> Option<Result<Made, Error>> {
        let Self { options, .. } = self;
        let slice = rank_slice(options.batch, options.rank, options.world);
        let first = index * options.batch + slice.start;
        let size = self.views.crop_size as usize;
        let mut batch = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        for view in &mut batch.views {
            view.resize(slice.len() * 3 * size * size, 0.0);
        }
        let mut outcomes: Vec<Option<Result<Outcome, Error>>> = Vec::new();
        outcomes.resize_with(slice.len(), || None);
        let [one, two] = &mut batch.views;
        let planes = one.chunks_exact_mut(3 * size * size).zip(two.chunks_exact_mut(3 * size * size));
        pool.in_place_scope_fifo(|scope| {
            for ((position, outcome), (one, two)) in (first..).zip(&mut outcomes).zip(planes) {
                scope.spawn_fifo(move |_| {
                    if !stop.load(Ordering::Relaxed) {
                        *outcome = Some(self.fill(&mut self.scratch.mine(), position, [one, two]));
                    }
                });
            }
        });
        let outcomes: Result<Vec<Outcome>, Error> = outcomes.into_iter().collect::<Option<_>>()?;
        Some(outcomes.map(|outcomes| self.finish(batch, index, outcomes)))
    }
}

impl Maker {
    /// Both views of the sample at `position` of the epoch's order, or of the next readable one.
    fn fill(&self, scratch: &mut Scratch, position: usize, views: [&mut [f32]; 2]) -> Result<Outcome, Error> {
        let mut bad = Vec::new();
        let samples = self.order.len();
        for place in position..position + samples {
            let id = u64::from(self.order[place % samples]);
            match scratch.load(&*self.source, id)? {
                Ok(()) => {
                    self.render(scratch, id, views);
                    return Ok(Outcome { id: Some(id), bad });
                }
                Err(found) => bad.push(found),
            }
            // These are distinct, so the limit is passed already.
            if bad.len() as u64 > self.options.max_corrupt {
                return Ok(Outcome { id: None, bad });
            }
        }
        let last = bad.pop().map_or_else(Default::default, |bad| (bad.name, bad.reason));
        Err(Error::NothingReadable { samples, name: last.0, reason: last.1 })
    }

    fn render(&self, scratch: &mut Scratch, id: u64, views: [&mut [f32]; 2]) {
        let size = self.views.crop_size as usize;
        let Scratch { image, renderer, .. } = scratch;
        for (view, planes) in (0u8..).zip(views) {
            let mut rng = CounterRng::view(self.options.seed, self.options.epoch, id, view);
            let params = self.views.draw(&mut rng, image.width, image.height);
            renderer.view(image, &params, size, &self.normalize, planes);
        }
    }

    fn finish(&self, mut batch: Batch, index: usize, outcomes: Vec<Outcome>) -> Made {
        let size = self.views.crop_size as usize;
        batch.index = index;
        batch.shape = [outcomes.len(), 3, size, size];
        batch.ids.clear();
        batch.labels.clear();
        batch.replaced.clear();
        let mut corrupt = Vec::new();
        for (position, outcome) in outcomes.into_iter().enumerate() {
            let by = outcome.id.unwrap_or(u64::MAX);
            batch.ids.push(by);
            batch.labels.push(self.source.label(by));
            for bad in outcome.bad {
                let Bad { id, name, reason } = bad.clone();
                batch.replaced.push(Replaced { position, id, name, reason, by });
                corrupt.push(bad);
            }
        }
        Made { batch, corrupt }
    }
}
