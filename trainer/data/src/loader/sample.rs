//! One worker's part: from a sample's id to its pixels.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Decoder, Error, Renderer, RgbImage, Source};

/// A worker's buffers, kept from sample to sample.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    decoder: Decoder,
    bytes: Vec<u8>,
    pub(super) image: RgbImage,
    pub(super) renderer: Renderer,
}

impl Scratch {
    /// Reads and decodes a sample into `self.image`. The outer error ends the loading, the inner names a bad image.
    pub(super) fn load(&mut self, source: &dyn Source, id: u64) -> Result<Result<(), Bad>, Error> {
        let done = source
            .read_into(id, &mut self.bytes)
            .and_then(|()| self.decoder.decode(source.name(id), &self.bytes, &mut self.image));
        match done {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.is_bad_image() => Ok(Err(Bad::new(source, id, &error))),
            Err(error) => Err(error),
        }
    }
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
    pub(super) fn new(threads: usize) -> Self {
        Self { workers: (0..threads).map(|_| Mutex::default()).collect() }
    }

    /// The calling worker's own; never contended, since a worker does one thing at a time.
    pub(super) fn mine(&self) -> MutexGuard<'_, Scratch> {
        let worker = rayon::current_thread_index().unwrap_or(0) % self.workers.len();
        // Buffers are refilled for each sample, so a panic elsewhere leaves nothing half-done that matters.
        self.workers[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
