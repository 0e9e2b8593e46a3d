//! Reading ahead from object storage, where each request takes long but many can be under way at once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::Error;

/// Requests under way at once.
const REQUESTS: usize = 64;
/// Samples asked for and not yet taken; beyond this a hint is ignored, so that unused samples take bounded memory.
const HELD: usize = 4096;

type Answer = oneshot::Receiver<Result<Vec<u8>, Error>>;

/// Samples on their way.
#[derive(Debug)]
pub(super) struct Prefetcher {
    runtime: Handle,
    permits: Arc<Semaphore>,
    answers: Mutex<HashMap<u64, (u64, Answer)>>,
}

impl Prefetcher {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, permits: Arc::new(Semaphore::new(REQUESTS)), answers: Mutex::default() }
    }

    /// Starts fetching the bytes of sample `id`, unless that was done.
    pub(super) fn start(&self, id: u64, fetch: impl Future<Output = Result<Vec<u8>, Error>> + Send + 'static) {
        self.start_within(u64::MAX, 0, id, fetch);
    }

    /// As [`Self::start`] for `id` of `bytes` bytes, unless more than `limit` bytes would be on their way.
    pub(super) fn start_within(
        &self,
        limit: u64,
        bytes: u64,
        id: u64,
        fetch: impl Future<Output = Result<Vec<u8>, Error>> + Send + 'static,
    ) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || bytes > 0 && answers.values().map(|(bytes, _)| bytes).sum::<u64>().saturating_add(bytes) > limit;
        if answers.len() >= HELD || answers.contains_key(&id) || full() {
            return;
        }
        let (sender, receiver) = oneshot::channel();
        let permits = Arc::clone(&self.permits);
        self.runtime.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            let _ = sender.send(fetch.await);
        });
        answers.insert(id, (bytes, receiver));
    }

    /// The bytes of sample `id`, once they are here; `None` if nobody asked for them.
    pub(super) fn take(&self, id: u64) -> Option<Result<Vec<u8>, Error>> {
        let (_, answer) = self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)?;
        answer.blocking_recv().ok()
    }
}
