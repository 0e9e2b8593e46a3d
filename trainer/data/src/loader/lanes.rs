//! The machinery of both loaders: lanes, the pool of workers, ordered delivery, and shutdown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Error;

/// Makes batch after batch; called from one lane at a time for each index, from several lanes at once in all.
pub(super) trait Make: Send + Sync + 'static {
    type Output: Send + 'static;

    /// Makes the batch of this index, with the pool's threads. `None` once `stop` is set.
    fn make(&self, index: usize, pool: &ThreadPool, stop: &AtomicBool) -> Option<Result<Self::Output, Error>>;
}

/// Runs a [`Make`] ahead of its consumer.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    queues: Vec<Receiver<Result<T, Error>>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    first: usize,
    next: usize,
    end: usize,
    waited: Duration,
}

/// Batches made at once.
pub(super) const LANES: usize = 2;

impl<T: Send + 'static> Lanes<T> {
    /// Starts making the batches `first..end` with `threads` workers, at most about `prefetch` ahead of their use.
    pub(super) fn start<M: Make<Output = T>>(
        make: M,
        first: usize,
        end: usize,
        threads: usize,
        prefetch: usize,
    ) -> Result<Self, Error> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|worker| format!("data-{worker}"))
            .build()
            .map_err(|error| Error::Worker { what: format!("could not be started: {error}") })?;
        let shared = Arc::new((make, pool));
        let mut lanes = Self {
            queues: Vec::new(),
            threads: Vec::new(),
            stop: Arc::default(),
            first,
            next: first,
            end,
            waited: Duration::ZERO,
        };
        let count = LANES.min(prefetch);
        for lane in 0..count {
            // A lane holds one batch besides those in its queue.
            let (sender, receiver) = sync_channel((prefetch / count).saturating_sub(1));
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&lanes.stop));
            let thread = std::thread::Builder::new()
                .name(format!("data-lane-{lane}"))
                .spawn(move || run(&shared.0, &shared.1, &stop, (first + lane..end).step_by(count), &sender))
                .map_err(|error| Error::Worker { what: format!("could not be started: {error}") })?;
            lanes.queues.push(receiver);
            lanes.threads.push(thread);
        }
        Ok(lanes)
    }

    /// The next batch in order; after an error, no more.
    pub(super) fn next(&mut self) -> Option<Result<T, Error>> {
        if self.next >= self.end {
            return None;
        }
        let queue = &self.queues[(self.next - self.first) % self.queues.len()];
        let start = Instant::now();
        let received = queue.recv();
        self.waited += start.elapsed();
        self.next += 1;
        let item =
            received.unwrap_or_else(|_| Err(Error::Worker { what: "ended before its work was done".to_owned() }));
        if item.is_err() {
            self.end = self.next;
        }
        Some(item)
    }

    /// Time that [`Self::next`] has blocked for so far.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// No more batches will be asked for.
    pub(super) fn finish(&mut self) {
        self.end = self.next;
    }
}

fn run<M: Make>(
    make: &M,
    pool: &ThreadPool,
    stop: &AtomicBool,
    indices: impl Iterator<Item = usize>,
    sender: &SyncSender<Result<M::Output, Error>>,
) {
    for index in indices {
        let Some(made) = make.make(index, pool, stop) else { return };
        let failed = made.is_err();
        if sender.send(made).is_err() || failed {
            return;
        }
    }
}

/// Has the pool's workers do `work` on each item: each takes the next when it is done with its last. This allocates once
/// a worker, not once an item.
pub(super) fn share_out<T: Send>(
    pool: &ThreadPool,
    stop: &AtomicBool,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    let queue = Mutex::new(items);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(item) = next else { return };
            work(item);
        }
    };
    pool.in_place_scope_fifo(|scope| (0..pool.current_num_threads()).for_each(|_| scope.spawn_fifo(|_| worker())));
}

impl<T> Drop for Lanes<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A lane blocked on a full queue wakes when its receiver goes.
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A lane that panicked has reported already.
            let _ = thread.join();
        }
    }
}
