//! What the agent knows of its ranks, shared by the relay, the HTTP server and the display.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::telemetry::display::Display;
use crate::telemetry::{Event, Metrics, Progress};

struct Inner {
    progress: Progress,
    /// Bounds on silence: in a step, and until all peers have come.
    bounds: Option<(Duration, Duration)>,
    metrics: Metrics,
    display: Display,
}

impl Inner {
    fn patience(&self) -> Option<Duration> {
        self.bounds.map(|(stall, rendezvous)| self.progress.patience(stall, rendezvous))
    }
}

/// A handle to it; clones are the same board.
#[derive(Clone)]
pub struct RunStatus(Arc<Mutex<Inner>>);

impl RunStatus {
    /// An empty board of a run.
    pub fn new(run: &str) -> Result<Self, Error> {
        let (progress, metrics, display) = (Progress::new(run, ""), Metrics::new()?, Display::new());
        Ok(Self(Arc::new(Mutex::new(Inner { progress, bounds: None, metrics, display }))))
    }

    /// Another stage begins.
    pub fn begin(&self, stage: &str) {
        let mut inner = self.lock();
        let checkpoint = inner.progress.checkpoint.take();
        let knn_top1 = inner.progress.knn_top1;
        let mut next = Progress::new(&inner.progress.run, stage);
        (next.checkpoint, next.knn_top1) = (checkpoint, knn_top1);
        inner.progress = next;
    }

    /// A rank said something.
    pub fn event(&self, rank: usize, event: &Event) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.progress.update(rank, event);
        inner.metrics.update(rank, event);
        if rank == 0 {
            inner.display.update(&inner.progress, event);
        }
    }

    /// Prints a line beside the live display.
    pub fn line(&self, text: &str) {
        self.lock().display.line(text);
    }

    /// The stage is over: takes the bar away.
    pub fn end(&self) {
        self.lock().display.finish();
    }

    /// The progress document.
    pub fn progress(&self) -> Progress {
        let inner = self.lock();
        let mut progress = inner.progress.clone();
        progress.quiet = inner.patience().is_some_and(|patience| progress.silence() > patience / 2);
        progress
    }

    /// Sets how long the ranks may be silent: in a step of training, and until all peers have come.
    pub fn watch(&self, stall: Duration, rendezvous: Duration) {
        self.lock().bounds = Some((stall, rendezvous));
    }

    /// How long the ranks have been silent, if that is longer than they may be.
    pub fn stalled(&self) -> Option<Duration> {
        let inner = self.lock();
        let silence = inner.progress.silence();
        inner.patience().filter(|patience| silence > *patience).map(|_| silence)
    }

    /// The metrics in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        self.lock().metrics.text()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Numbers half-updated by a panicking thread are still numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
