//! Two views, or one, of each sample of a rank's share of the epoch's global batches.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rayon::ThreadPool;

use super::batch::{Batch, Replaced};
use super::lanes::{LANES, Lanes, Make, share_out};
use super::options::{Last, LoaderOptions, ViewFormat};
use super::sample::{Bad, Decoded, Scratch, ScratchPool};
use crate::decode::Wanted;
use crate::image::RGB;
use crate::ops::Normalize;
use crate::rng::CounterRng;
use crate::{Error, LoadTimes, Source, TwoViews, ViewParams, permutation, rank_slice};

/// The batches of one epoch, in order, for one rank.
///
/// An unreadable sample is replaced by the next readable one of the epoch's permutation (cyclic), with that sample's
/// own views; [`Batch::replaced`] names it. After an error the iterator ends.
///
/// # Memory
/// What a loader holds is bounded and does not grow over an epoch, if batches are handed back by [`Self::recycle`]:
/// - `prefetch + 1` batches with the one in use, each of N = `batch / world` samples and `N · V · C · S² · b` bytes, with V
///   views, C channels and b = 4 for [`ViewFormat::Planes`] or 1 for [`ViewFormat::Crops`] (N = 64, V = 2, C = 3, S = 224: 77 MB, or 19 MB);
/// - for each thread, the largest encoded file met so far, its decoded part (3 bytes a pixel; 7 for CMYK) and about
///   `8 · S² + 3 · S · h` bytes of buffers, where h is the tallest crop's height (S = 224, h = 500: 0.7 MB);
/// - 4 bytes for each sample of the data set: the epoch's order.
#[derive(Debug)]
pub struct Loader {
    lanes: Lanes<Made>,
    spare: Arc<Spare>,
    scratch: Arc<ScratchPool>,
    corrupt: HashSet<u64>,
    max_corrupt: u64,
    batches: usize,
}

type Spare = Mutex<Vec<Batch>>;

impl Loader {
    /// Starts loading two views of each sample. The epoch's last, partial batch is dropped.
    ///
    /// # Errors
    /// [`Error::Option`] for an option out of range, [`Error::TooFewSamples`] when the source has fewer samples than one
    /// global batch, [`Error::Worker`] when a thread cannot be started.
    pub fn two_views(source: Arc<dyn Source>, views: TwoViews, options: LoaderOptions) -> Result<Self, Error> {
        Self::start(source, views, options, Count::Two, Last::Dropped)
    }

    /// Starts loading one view of each sample, for training a classifier; [`Batch::views`]`[1]` stays empty. The epoch's
    /// last, partial batch is kept: a rank's share of it may be smaller than another's, or empty.
    ///
    /// # Errors
    /// [`Error::Option`] for an option out of range, [`Error::Worker`] when a thread cannot be started.
    pub fn one_view(source: Arc<dyn Source>, views: TwoViews, options: LoaderOptions) -> Result<Self, Error> {
        Self::start(source, views, options, Count::One, Last::Kept)
    }

    fn start(
        source: Arc<dyn Source>,
        views: TwoViews,
        options: LoaderOptions,
        count: Count,
        last: Last,
    ) -> Result<Self, Error> {
        views.check()?;
        options.check(source.len(), last)?;
        if options.output == ViewFormat::Crops && views.channels() != RGB {
            return Err(Error::option("output", "Crops", "Planes for images of other than three channels"));
        }
        let spare = Arc::new(Spare::default());
        let batches = last.batches(source.len(), options.batch);
        let decode = source.decode_options().of_channels(views.channels());
        let scratch = Arc::new(ScratchPool::new(options.threads, options.time_stages, decode));
        let maker = Maker {
            order: permutation(options.seed, options.epoch, source.len()),
            normalize: Normalize::new(&views.mean, &views.std),
            scratch: Arc::clone(&scratch),
            spare: Arc::clone(&spare),
            source,
            views,
            count,
            options,
        };
        let LoaderOptions { first_batch, threads, prefetch, max_corrupt, .. } = maker.options;
        let lanes = Lanes::start(maker, first_batch, batches, threads, prefetch)?;
        Ok(Self { lanes, spare, scratch, corrupt: HashSet::new(), max_corrupt, batches })
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

    /// Where the workers' time went so far; all zero unless [`LoaderOptions::time_stages`] is set.
    #[must_use]
    pub fn stage_times(&self) -> LoadTimes {
        self.scratch.times()
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

    /// Counts a batch's unreadable samples, in the order of delivery, so that the result does not depend on timing.
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

/// Views of a sample.
#[derive(Clone, Copy, PartialEq)]
enum Count {
    One,
    Two,
}

impl Count {
    fn of(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

struct Maker {
    source: Arc<dyn Source>,
    views: TwoViews,
    count: Count,
    normalize: Normalize,
    options: LoaderOptions,
    order: Vec<u32>,
    scratch: Arc<ScratchPool>,
    spare: Arc<Spare>,
}

/// A batch and the unreadable samples met on the way, in the order of their positions.
#[derive(Debug)]
pub(super) struct Made {
    batch: Batch,
    corrupt: Vec<Bad>,
}

/// The outcome for one position of a batch.
#[derive(Default)]
struct Outcome {
    /// The sample that is there now; none when too many in a row were unreadable.
    id: Option<u64>,
    /// What was drawn for its views.
    params: Option<[ViewParams; 2]>,
    bad: Vec<Bad>,
}

impl Make for Maker {
    type Output = Made;

    fn make(&self, index: usize, pool: &ThreadPool, stop: &AtomicBool) -> Option<Result<Made, Error>> {
        let Self { options, .. } = self;
        let slice = self.slice(index);
        let first = index * options.batch + slice.start;
        let size = self.views.crop_size as usize;
        let view = self.views.channels() * size * size;
        self.prefetch(index);
        let mut batch = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let spaces = spaces(&mut batch, options.output, self.count, slice.len(), view);
        let mut outcomes: Vec<Option<Result<Outcome, Error>>> = Vec::new();
        outcomes.resize_with(slice.len(), || None);
        let items = (first..).zip(spaces).zip(&mut outcomes);
        share_out(pool, stop, items, |((position, space), outcome)| {
            *outcome = Some(self.fill(&mut self.scratch.mine(), position, space));
        });
        let outcomes: Result<Vec<Outcome>, Error> = outcomes.into_iter().collect::<Option<_>>()?;
        Some(outcomes.map(|outcomes| self.finish(batch, index, outcomes)))
    }
}

/// Where a sample's views go; the second is empty where there is one.
enum Space<'a> {
    Planes([&'a mut [f32]; 2]),
    Crops([&'a mut [u8]; 2]),
}

/// Gives the batch room for `samples` with views of `view` values, and divides it among them.
fn spaces(batch: &mut Batch, output: ViewFormat, count: Count, samples: usize, view: usize) -> Vec<Space<'_>> {
    let (planes, crops) = match output {
        ViewFormat::Planes => (samples * view, 0),
        ViewFormat::Crops => (0, samples * view),
    };
    let second = |length: usize| if count == Count::Two { length } else { 0 };
    let ([one, two], [three, four]) = (&mut batch.views, &mut batch.crops);
    one.resize(planes, 0.0);
    two.resize(second(planes), 0.0);
    three.resize(crops, 0);
    four.resize(second(crops), 0);
    // Where there is no second view, nothing is cut off it, sample after sample.
    let planes = one.chunks_exact_mut(view).zip(Parts { rest: two, length: second(view) });
    let crops = three.chunks_exact_mut(view).zip(Parts { rest: four, length: second(view) });
    planes.map(|(a, b)| Space::Planes([a, b])).chain(crops.map(|(a, b)| Space::Crops([a, b]))).collect()
}

/// Part after part of a slice, for ever where they are empty.
struct Parts<'a, T> {
    rest: &'a mut [T],
    length: usize,
}

impl<'a, T> Iterator for Parts<'a, T> {
    type Item = &'a mut [T];

    fn next(&mut self) -> Option<&'a mut [T]> {
        let (part, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(self.length)?;
        self.rest = rest;
        Some(part)
    }
}

impl Maker {
    /// Tells the source which samples come after those of the lanes' batches under way; at the start, those too.
    fn prefetch(&self, index: usize) {
        let LoaderOptions { batch, first_batch, .. } = self.options;
        let from = if index == first_batch { index } else { index + LANES };
        for index in from..=index + LANES {
            let slice = self.slice(index);
            let places = index * batch + slice.start..index * batch + slice.end;
            let ids: Vec<u64> = self.order.get(places).unwrap_or_default().iter().map(|id| u64::from(*id)).collect();
            self.source.prefetch(&ids);
        }
    }

    /// This rank's positions within the global batch of this index, of which the epoch's last may be smaller.
    fn slice(&self, index: usize) -> std::ops::Range<usize> {
        let LoaderOptions { batch, rank, world, .. } = self.options;
        let left = self.order.len().saturating_sub(index * batch);
        rank_slice(batch.min(left), rank, world)
    }

    /// The views of the sample at `position` of the epoch's order, or of the next readable one.
    fn fill(&self, scratch: &mut Scratch, position: usize, space: Space) -> Result<Outcome, Error> {
        let mut bad = Vec::new();
        let samples = self.order.len();
        for place in position..position + samples {
            let id = u64::from(self.order[place % samples]);
            let mut params = None;
            // One decode serves both views, so both are drawn as soon as the image's size is known.
            let mut plan = |width, height| {
                let drawn = [0, 1].map(|view| {
                    let view = if self.count == Count::Two { view } else { 0 };
                    let LoaderOptions { seed, epoch, first_view, .. } = self.options;
                    let mut rng = CounterRng::view(seed, epoch, id, first_view + view);
                    self.views.draw(&mut rng, view, width, height)
                });
                params = Some(drawn);
                Wanted::of(drawn.map(|view| view.crop), self.views.crop_size as usize)
            };
            match (scratch.load_part(&*self.source, id, self.options.decode, &mut plan)?, params) {
                (Decoded::Image, Some(drawn)) => {
                    self.render(scratch, &drawn, space);
                    return Ok(Outcome { id: Some(id), params, bad });
                }
                (Decoded::Image, None) => {
                    return Err(Error::Worker { what: "decoded an image without a plan".to_owned() });
                }
                (Decoded::Bad(found), _) => bad.push(found),
            }
            // These are distinct, so the limit is passed already.
            if bad.len() as u64 > self.options.max_corrupt {
                return Ok(Outcome { id: None, params: None, bad });
            }
        }
        let last = bad.pop().map_or_else(Default::default, |bad| (bad.name, bad.reason));
        Err(Error::NothingReadable { samples, name: last.0, reason: last.1 })
    }

    fn render(&self, scratch: &mut Scratch, drawn: &[ViewParams; 2], space: Space) {
        let size = self.views.crop_size as usize;
        let Scratch { part, renderer, .. } = scratch;
        match space {
            Space::Planes(views) => {
                for (params, planes) in drawn.iter().zip(views).take(self.count.of()) {
                    renderer.view_of_part(part, params, size, &self.normalize, planes);
                }
            }
            Space::Crops(views) => {
                for (params, crop) in drawn.iter().zip(views).take(self.count.of()) {
                    renderer.crop_of(&part.image, part.area(params.crop), size, crop);
                }
            }
        }
        renderer.times.count_sample();
    }

    fn finish(&self, mut batch: Batch, index: usize, outcomes: Vec<Outcome>) -> Made {
        let size = self.views.crop_size as usize;
        batch.index = index;
        batch.shape = [outcomes.len(), self.views.channels(), size, size];
        batch.ids.clear();
        batch.labels.clear();
        batch.replaced.clear();
        batch.params.iter_mut().for_each(Vec::clear);
        let mut corrupt = Vec::new();
        for (position, outcome) in outcomes.into_iter().enumerate() {
            let by = outcome.id.unwrap_or(u64::MAX);
            batch.ids.push(by);
            batch.labels.push(self.source.label(by));
            for (params, drawn) in batch.params.iter_mut().zip(outcome.params.iter().flatten()).take(self.count.of()) {
                params.push(*drawn);
            }
            for bad in outcome.bad {
                let Bad { id, name, reason } = bad.clone();
                batch.replaced.push(Replaced { position, id, name, reason, by });
                corrupt.push(bad);
            }
        }
        Made { batch, corrupt }
    }
}
