//! A first-in, first-out queue of runs to reconcile.
//!
//! kube's own queue takes an arbitrary run of those that are due. With more of them than the API server can serve, some
//! would starve while others are reconciled again and again. So kube gets only as many runs as it can start at once; the
//! others wait here in the order in which they were enqueued, each at most once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::api::RunKey;
use crate::sync::lock;

/// Events of one run within this time cause one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Runs that wait, and how many are being reconciled.
#[derive(Debug)]
pub struct FairQueue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The most reconciliations at a time.
    limit: usize,
    /// Runs that wait, and the time from which each may be taken.
    waiting: VecDeque<(RunKey, Instant)>,
    /// The runs in `waiting`, for look-up.
    queued: HashSet<RunKey>,
    /// Runs that were taken and have not started.
    taken: HashSet<RunKey>,
    running: usize,
}

/// What can be taken now.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Run(RunKey),
    /// Nothing before this time.
    NotBefore(Instant),
    /// Nothing until the queue changes.
    Nothing,
}

impl State {
    fn enqueue(&mut self, key: RunKey, now: Instant) {
        // A run that was taken and has not started will see the newest state.
        if !self.taken.contains(&key) && self.queued.insert(key.clone()) {
            self.waiting.push_back((key, now + DEBOUNCE));
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        match self.waiting.front() {
            Some(_) if self.taken.len() + self.running >= self.limit => Next::Nothing,
            Some((_, at)) if *at > now => Next::NotBefore(*at),
            _ => match self.waiting.pop_front() {
                Some((key, _)) => {
                    self.queued.remove(&key);
                    self.taken.insert(key.clone());
                    Next::Run(key)
                }
                None => Next::Nothing,
            },
        }
    }
}

impl FairQueue {
    /// A queue for at most `limit` reconciliations at a time.
    pub fn new(limit: usize) -> Self {
        let (waiting, queued, taken) = (VecDeque::new(), HashSet::new(), HashSet::new());
        Self { state: Mutex::new(State { limit, waiting, queued, taken, running: 0 }), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Adds a run, unless it waits already.
    pub fn enqueue(&self, key: RunKey) {
        self.state().enqueue(key, Instant::now());
        self.changed.notify_one();
    }

    /// Waits for the next run.
    pub async fn next(&self) -> RunKey {
        loop {
            let next = self.state().next(Instant::now());
            match next {
                Next::Run(key) => return key,
                Next::NotBefore(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.changed.notified() => {}
                },
                Next::Nothing => self.changed.notified().await,
            }
        }
    }

    /// Marks a run's reconciliation as started. It counts as running until the returned guard is dropped.
    pub fn start(&self, key: &RunKey) -> Running<'_> {
        let mut state = self.state();
        state.taken.remove(key);
        state.running += 1;
        Running { queue: self }
    }

    /// Drops a run that was taken but no longer exists, and so never starts.
    pub fn discard(&self, key: &RunKey) {
        self.state().taken.remove(key);
        self.changed.notify_one();
    }
}

/// A reconciliation in progress.
#[derive(Debug)]
pub struct Running<'a> {
    queue: &'a FairQueue,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.running = state.running.saturating_sub(1);
        drop(state);
        self.queue.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> RunKey {
        RunKey { namespace: "n".into(), name: format!("r{i}") }
    }

    /// What can be taken now.
    fn take_all(queue: &FairQueue) -> Vec<RunKey> {
        let later = Instant::now() + DEBOUNCE;
        std::iter::from_fn(|| match queue.state().next(later) {
            Next::Run(key) => Some(key),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn runs_enqueued_repeatedly_are_taken_once_in_order() {
        let queue = FairQueue::new(2);
        for i in [0, 1, 2, 1, 0, 3] {
            queue.enqueue(key(i));
        }
        assert_eq!(take_all(&queue), [key(0), key(1)]);
        // A run that was taken is not taken twice; a running one is queued again, behind the others.
        queue.enqueue(key(0));
        let running = queue.start(&key(0));
        queue.enqueue(key(0));
        assert_eq!(take_all(&queue), [], "no more than two");
        drop(running);
        assert_eq!(take_all(&queue), [key(2)]);
        drop(queue.start(&key(1)));
        queue.discard(&key(2));
        assert_eq!(take_all(&queue), [key(3), key(0)]);
    }

    #[test]
    fn run_just_enqueued_is_debounced() {
        let queue = FairQueue::new(2);
        queue.enqueue(key(0));
        assert!(matches!(queue.state().next(Instant::now()), Next::NotBefore(_)));
    }

    #[tokio::test]
    async fn next_at_the_limit_waits_until_a_run_ends() {
        let queue = std::sync::Arc::new(FairQueue::new(1));
        queue.enqueue(key(0));
        queue.enqueue(key(1));
        assert_eq!(queue.next().await, key(0));
        let next = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        let running = queue.start(&key(0));
        tokio::time::sleep(2 * DEBOUNCE).await;
        assert!(!next.is_finished());
        drop(running);
        assert_eq!(next.await.unwrap(), key(1));
    }
}
