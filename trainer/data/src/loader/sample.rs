//! One worker's part: from a sample's id to its pixels.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::decode::{Part, Wanted};
use crate::times::{LoadStage, LoadTimes};
use crate::{DecodeMode, DecodeOptions, Decoder, Error, Renderer, Source};

/// A worker's buffers, kept from sample to sample.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    decoder: Decoder,
    bytes: Vec<u8>,
    pub(super) part: Part,
    pub(super) renderer: Renderer,
}

impl Scratch {
    /// Reads and decodes a whole sample into `self.part`. An error ends the loading.
    pub(super) fn load(&mut self, source: &dyn Source, id: u64) -> Result<Decoded, Error> {
        let Self { decoder, bytes, part, .. } = self;
        let read = source.read_into(id, bytes);
        classify(source, id, read.and_then(|()| decoder.decode_whole(source.name(id), bytes, part)))
    }

    /// Reads a sample and decodes what `plan` wants of it, given its width and height, into `self.part`. An error ends the
    /// loading.
    pub(super) fn load_part(
        &mut self,
        source: &dyn Source,
        id: u64,
        mode: DecodeMode,
        plan: &mut dyn FnMut(usize, usize) -> Wanted,
    ) -> Result<Decoded, Error> {
        let Self { decoder, bytes, part, renderer: Renderer { times, .. } } = self;
        let mut done = times.measure(LoadStage::Read, || source.read_into(id, bytes));
        if done.is_ok() {
            let name = source.name(id);
            done = times.measure(LoadStage::Decode, || decoder.decode_part(name, bytes, mode, plan, part));
        }
        classify(source, id, done)
    }
}

/// Separates a bad image from any other error.
fn classify(source: &dyn Source, id: u64, done: Result<(), Error>) -> Result<Decoded, Error> {
    match done {
        Ok(()) => Ok(Decoded::Image),
        Err(error) if error.is_bad_image() => Ok(Decoded::Bad(Bad::new(source, id, &error))),
        Err(error) => Err(error),
    }
}

/// What became of a sample.
#[derive(Debug)]
pub(super) enum Decoded {
    /// It is decoded.
    Image,
    /// It cannot be used.
    Bad(Bad),
}

/// A sample that cannot be used.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) reason: String,
}

impl Bad {
    fn new(source: &dyn Source, id: u64, error: &Error) -> Self {
        let reason = match error {
            Error::Decode { reason, .. } => reason.clone(),
            Error::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        Self { id, name: source.name(id).to_owned(), reason }
    }
}

/// One [`Scratch`] for each worker of a pool.
#[derive(Debug)]
pub(super) struct ScratchPool {
    workers: Vec<Mutex<Scratch>>,
}

impl ScratchPool {
    /// For images that are decoded by `options`.
    pub(super) fn new(threads: usize, time_stages: bool, options: DecodeOptions) -> Self {
        let scratch = || {
            let mut scratch = Scratch { decoder: Decoder::with(options), ..Scratch::default() };
            scratch.renderer.times = LoadTimes::new(time_stages);
            Mutex::new(scratch)
        };
        Self { workers: (0..threads).map(|_| scratch()).collect() }
    }

    /// The calling worker's own; never contended but by [`Self::times`], since a worker does one thing at a time.
    pub(super) fn mine(&self) -> MutexGuard<'_, Scratch> {
        let worker = rayon::current_thread_index().unwrap_or(0) % self.workers.len();
        lock(&self.workers[worker])
    }

    /// All workers' times together.
    pub(super) fn times(&self) -> LoadTimes {
        self.workers.iter().fold(LoadTimes::default(), |mut sum, worker| {
            sum.add(&lock(worker).renderer.times);
            sum
        })
    }
}

/// Buffers are refilled for each sample, so a panic elsewhere leaves nothing half-done that matters.
fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}
