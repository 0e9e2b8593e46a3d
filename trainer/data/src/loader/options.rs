//! The options of a loader.

use crate::{DecodeMode, Error};

/// What a [`crate::Loader`] loads, and how.
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
    /// The first of the two views' numbers: loaders with 0 and with 2 make four different views of each sample.
    pub first_view: u8,
    /// Worker threads.
    pub threads: usize,
    /// Batches made ahead of their use; see [`crate::Loader`] for their size.
    pub prefetch: usize,
    /// How many distinct unreadable images this loader replaces before it gives up.
    pub max_corrupt: u64,
    /// How much of an image is decoded, and how exactly.
    pub decode: DecodeMode,
    /// What a batch holds of each view.
    pub output: ViewFormat,
    /// Whether to fill [`crate::Loader::stage_times`].
    pub time_stages: bool,
}

impl Default for LoaderOptions {
    /// Epoch 0 of seed 0 for one rank and one thread, batches of 256, two ahead, no bad image allowed, exact planes.
    fn default() -> Self {
        Self {
            seed: 0,
            epoch: 0,
            batch: 256,
            rank: 0,
            world: 1,
            first_batch: 0,
            first_view: 0,
            threads: 1,
            prefetch: 2,
            max_corrupt: 0,
            decode: DecodeMode::Exact,
            output: ViewFormat::Planes,
            time_stages: false,
        }
    }
}

/// What a batch holds of each view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ViewFormat {
    /// The finished view: [`crate::Batch::views`].
    #[default]
    Planes,
    /// The resized crop alone, [`crate::Batch::crops`]; all else is left to the device, with [`crate::Batch::params`].
    Crops,
}

/// What happens to an epoch's last, partial batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Dropped,
    Kept,
}

impl Last {
    /// Batches of an epoch.
    pub(super) fn batches(self, samples: usize, batch: usize) -> usize {
        match self {
            Self::Dropped => samples / batch,
            Self::Kept => samples.div_ceil(batch),
        }
    }
}

impl LoaderOptions {
    pub(super) fn check(&self, samples: usize, last: Last) -> Result<(), Error> {
        if self.batch == 0 {
            return Err(Error::option("batch", 0, "at least 1"));
        }
        if self.world == 0 || !self.batch.is_multiple_of(self.world) {
            return Err(Error::option("batch", self.batch, format!("a multiple of the world size, {}", self.world)));
        }
        if self.rank >= self.world {
            return Err(Error::option("rank", self.rank, format!("less than the world size, {}", self.world)));
        }
        if last == Last::Dropped && samples < self.batch {
            return Err(Error::TooFewSamples { samples, batch: self.batch });
        }
        if u32::try_from(samples).is_err() {
            return Err(Error::option("samples", samples, format!("at most {}", u32::MAX)));
        }
        let batches = last.batches(samples, self.batch);
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
