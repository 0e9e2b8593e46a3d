//! What the agent knows of its ranks, shared by the relay, the HTTP server and the display.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simsiam_contract::Progress;

use crate::error::Error;
use crate::telemetry::display::Display;
use crate::telemetry::metric_table::{TRACK_PENDING, TRACK_REFUSED};
use crate::telemetry::track::TrackerSender;
use crate::telemetry::{Event, Metrics, ProgressTracker};

struct Inner {
    progress: ProgressTracker,
    /// Bounds on silence: in a training step, and until all peers have arrived.
    bounds: Option<(Duration, Duration)>,
    metrics: Metrics,
    display: Display,
    tracker: Option<TrackerSender>,
}

impl Inner {
    fn silence_limit(&self) -> Option<Duration> {
        self.bounds.map(|(stall, rendezvous)| self.progress.silence_limit(stall, rendezvous))
    }
}

/// A handle to the status of a run; clones share it.
#[derive(Clone)]
pub struct RunStatus(Arc<Mutex<Inner>>);

impl RunStatus {
    /// The status of a run that has not begun a stage.
    pub fn new(run: &str) -> Result<Self, Error> {
        let (progress, metrics, display) = (ProgressTracker::new(run, ""), Metrics::new()?, Display::new());
        Ok(Self(Arc::new(Mutex::new(Inner { progress, bounds: None, metrics, display, tracker: None }))))
    }

    /// Begins another stage.
    pub fn begin(&self, stage: &str) {
        let mut inner = self.lock();
        inner.progress = inner.progress.next_stage(stage);
        if let Some(tracker) = &inner.tracker {
            tracker.stage(stage);
        }
    }

    /// Takes in an event of `rank`.
    pub fn event(&self, rank: usize, event: &Event) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.progress.update(rank, event);
        inner.metrics.update(rank, event);
        if rank == 0 {
            inner.display.update(inner.progress.document(), event);
            if let Some(tracker) = &inner.tracker {
                tracker.event(event);
            }
        }
    }

    /// Passes the events of rank 0 on to a tracker from now on.
    pub fn track(&self, tracker: TrackerSender) {
        self.lock().tracker = Some(tracker);
    }

    /// Shows how many values the tracker lacks, and how many it does not take.
    pub fn tracked(&self, pending: u64, refused: u64) {
        let inner = self.lock();
        inner.metrics.set(&TRACK_PENDING, pending as f64);
        inner.metrics.set(&TRACK_REFUSED, refused as f64);
    }

    /// Prints a line above the progress bar.
    pub fn line(&self, text: &str) {
        self.lock().display.line(text);
    }

    /// Ends the stage: removes the progress bar.
    pub fn end(&self) {
        self.lock().display.finish();
    }

    /// The progress document.
    pub fn progress(&self) -> Progress {
        let inner = self.lock();
        let quiet = inner.silence_limit().is_some_and(|limit| inner.progress.silence() > limit / 2);
        Progress { quiet, ..inner.progress.document().clone() }
    }

    /// Sets how long the ranks may be silent: in a training step, and until all peers have arrived.
    pub fn watch(&self, stall: Duration, rendezvous: Duration) {
        self.lock().bounds = Some((stall, rendezvous));
    }

    /// How long the ranks have been silent, if that is longer than allowed.
    pub fn stalled(&self) -> Option<Duration> {
        let inner = self.lock();
        let silence = inner.progress.silence();
        inner.silence_limit().filter(|limit| silence > *limit).map(|_| silence)
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
