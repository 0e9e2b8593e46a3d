//! Writing checkpoints in the background, one at a time.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use simsiam_recipe::CheckpointPolicy;

use super::snapshot::Snapshot;
use super::store::Checkpoints;
use crate::error::Error;
use crate::telemetry::Sink;
use crate::telemetry::event::Event;

/// A checkpoint that was completed.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its address.
    pub uri: String,
    /// Finished optimiser steps.
    pub step: u64,
    /// Total size of its files in bytes.
    pub bytes: u64,
    /// Time from the snapshot to the manifest.
    pub took: Duration,
}

/// A thread that serialises, hashes, uploads and retires checkpoints. Training waits only while the previous checkpoint is
/// still being written.
pub struct Writer {
    jobs: Option<Sender<Snapshot>>,
    results: Receiver<Result<Written, Error>>,
    thread: Option<JoinHandle<()>>,
    in_flight: bool,
}

impl Writer {
    /// Starts the thread, which reports every completed checkpoint to `sink`.
    pub fn start(checkpoints: Checkpoints, policy: CheckpointPolicy, sink: Sink) -> Result<Self, Error> {
        let (jobs, queue) = channel::<Snapshot>();
        let (report, results) = channel();
        let work = move || {
            for snapshot in queue {
                let result = write(&checkpoints, &policy, &snapshot);
                if let Ok(w) = &result {
                    let (uri, seconds) = (w.uri.clone(), w.took.as_secs_f64());
                    sink.send(&Event::Checkpoint { step: w.step, uri, seconds, bytes: w.bytes });
                }
                if report.send(result).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(work)
            .map_err(Error::system("start the checkpoint thread"))?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread), in_flight: false })
    }

    /// Passes a snapshot to the thread once the previous one is written.
    ///
    /// # Errors
    /// Those of the previous checkpoint.
    pub fn save(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        self.wait()?;
        if let Some(jobs) = &self.jobs {
            self.in_flight = jobs.send(snapshot).is_ok();
        }
        Ok(())
    }

    /// Waits for the checkpoint in flight, if any, and returns it.
    pub fn wait(&mut self) -> Result<Option<Written>, Error> {
        if !std::mem::take(&mut self.in_flight) {
            return Ok(None);
        }
        self.results.recv().ok().transpose()
    }

    /// Returns the error of a checkpoint that failed since the last call, without waiting.
    pub fn check(&mut self) -> Result<(), Error> {
        if let Ok(result) = self.results.try_recv() {
            self.in_flight = false;
            result?;
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Waits for the checkpoint in flight: a directory without a manifest would be of no use.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(checkpoints: &Checkpoints, policy: &CheckpointPolicy, snapshot: &Snapshot) -> Result<Written, Error> {
    let start = Instant::now();
    let (name, bytes) = checkpoints.write(snapshot)?;
    let written = Written { uri: checkpoints.uri(name), step: name.step, bytes, took: start.elapsed() };
    // The new checkpoint is complete; an old one that cannot be deleted costs space, not the run.
    if let Err(e) = checkpoints.retire(policy, name.attempt, snapshot.state.steps_per_epoch) {
        tracing::warn!("could not delete an old checkpoint: {e}");
    }
    Ok(written)
}
