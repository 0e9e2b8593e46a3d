//! Measurements between two synchronisations of the ranks.

use std::time::{Duration, Instant};

use tch::Tensor;

use crate::error::Error;
use crate::telemetry::event::Step;

/// Accumulates loss and times, and returns them at every synchronisation.
pub struct Meter {
    batch: u64,
    epochs: u64,
    steps_per_epoch: u64,
    /// Sum of the interval's losses, on the device: reading it would wait for the GPU.
    loss: Option<Tensor>,
    step_seconds: Vec<f64>,
    allreduce_seconds: Vec<f64>,
    data_wait: Duration,
    last: Instant,
    /// Images that were replaced in this attempt.
    pub corrupt: u64,
    seconds_in_all: f64,
    images_in_all: u64,
    warm: bool,
}

impl Meter {
    /// A meter for a stage of `epochs`, whose steps take `batch` images each.
    pub fn new(batch: u32, epochs: u32, steps_per_epoch: u64) -> Self {
        Self {
            batch: u64::from(batch),
            epochs: u64::from(epochs),
            steps_per_epoch,
            loss: None,
            step_seconds: Vec::new(),
            allreduce_seconds: Vec::new(),
            data_wait: Duration::ZERO,
            last: Instant::now(),
            corrupt: 0,
            seconds_in_all: 0.0,
            images_in_all: 0,
            warm: false,
        }
    }

    /// Restarts the clock, so that an evaluation does not count as training.
    pub fn restart(&mut self) {
        self.last = Instant::now();
    }

    /// Adds time that this rank waited for data outside a step.
    pub fn waited(&mut self, data_wait: Duration) {
        self.data_wait += data_wait;
    }

    /// Adds the time that gradients were still being reduced after all were computed, in a step that was timed.
    pub fn reduced(&mut self, exposed: Option<Duration>) {
        self.allreduce_seconds.extend(exposed.map(|time| time.as_secs_f64()));
    }

    /// Records a finished step.
    pub fn step(&mut self, loss: &Tensor, data_wait: Duration) -> Result<(), Error> {
        let loss = loss.f_detach()?;
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum.f_add(&loss)?,
            None => loss,
        });
        self.data_wait += data_wait;
        let now = Instant::now();
        self.step_seconds.push((now - self.last).as_secs_f64());
        self.last = now;
        Ok(())
    }

    /// Mean wall time of the interval's steps in seconds.
    pub fn mean_step_seconds(&self) -> f64 {
        self.step_seconds.iter().sum::<f64>() / self.step_seconds.len().max(1) as f64
    }

    /// Mean loss of the interval on this rank.
    pub fn mean_loss(&self) -> Result<f64, Error> {
        match &self.loss {
            Some(sum) => Ok(sum.f_double_value(&[])? / self.step_seconds.len() as f64),
            None => Ok(f64::NAN),
        }
    }

    /// Closes the interval after `step` finished steps, given the loss over all ranks. The caller fills in what only one
    /// kind of training has.
    pub fn measure(&mut self, step: u64, loss: f64) -> Step {
        let step_seconds = std::mem::take(&mut self.step_seconds);
        let seconds: f64 = step_seconds.iter().sum();
        let images = self.batch * step_seconds.len() as u64;
        // The first interval includes the warm-up of libtorch and the file system.
        if self.warm {
            self.seconds_in_all += seconds;
            self.images_in_all += images;
        }
        self.warm = true;
        self.loss = None;
        Step {
            step,
            steps: self.epochs * self.steps_per_epoch,
            epoch: (step - 1) / self.steps_per_epoch,
            epochs: self.epochs,
            loss,
            images,
            seconds,
            step_seconds,
            allreduce_seconds: std::mem::take(&mut self.allreduce_seconds),
            data_wait: std::mem::take(&mut self.data_wait).as_secs_f64(),
            corrupt: self.corrupt,
            ..Step::default()
        }
    }

    /// Mean throughput of this attempt in images per second (an image is two views in pre-training).
    pub fn images_per_second(&self) -> Option<f64> {
        (self.seconds_in_all > 0.0).then(|| self.images_in_all as f64 / self.seconds_in_all)
    }
}
