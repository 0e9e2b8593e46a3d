//! The training loop of every stage: it owns the clock, the meter, the optimiser, the Reducer, the checkpoints, and how
//! training stops. What is trained is a [`Task`].

use std::collections::VecDeque;
use std::ops::ControlFlow;

use simsiam_contract::RankPhase;
use simsiam_recipe::CheckpointPolicy;
use tch_ext::c10d::Reducer;

use super::clock::Clock;
use super::meter::Meter;
use super::rewind::Rewind;
use super::sgd::Sgd;
use super::sync_schedule::SyncSchedule;
use super::task::{Batches, EpochEnd, LossReduction, StepContext, Task, TaskSpec};
use crate::checkpoint::{Checkpoints, Writer};
use crate::dist::BucketSizes;
use crate::dist::{Rank, device};
use crate::error::Error;
use crate::storage::Storage;
use crate::telemetry::event::{Event, Step};

/// What the driver needs beside the task.
pub struct Options {
    /// The run's output.
    pub storage: Storage,
    /// The checkpoints of the stage.
    pub checkpoints: Checkpoints,
    /// When to write and to delete them.
    pub policy: CheckpointPolicy,
    /// Number of this attempt.
    pub attempt: u32,
    /// DDP's first and other bucket sizes in bytes.
    pub buckets: BucketSizes,
}

/// How training ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trained {
    /// Finished steps.
    pub step: u64,
    /// Finished epochs.
    pub epoch: u64,
    /// Mean loss of the last interval, if this attempt ran any.
    pub loss: Option<f64>,
    /// Mean throughput of this attempt.
    pub images_per_second: Option<f64>,
    /// Address of the last checkpoint, if this rank knows it; rank 0 always does.
    pub checkpoint: Option<String>,
    /// SHA-256 of the `model.safetensors` of the final checkpoint, or of the one that was resumed from; as above.
    pub weights_sha256: Option<String>,
}

/// Trains from the latest valid checkpoint, or from the beginning, to the end.
///
/// Returns the task as training left it.
///
/// ```no_run
/// use simsiam::Error;
/// use simsiam::dist::Rank;
/// use simsiam::training::task::{Task, TaskSpec};
/// use simsiam::training::{Options, Sgd, train};
///
/// fn stage<T: Task>(rank: &Rank, task: T, spec: TaskSpec, sgd: Sgd, options: Options) -> Result<T, Error> {
///     let (task, trained) = train(rank, task, spec, sgd, options)?;
///     println!("{} steps, SHA-256 of the weights {:?}", trained.step, trained.weights_sha256);
///     Ok(task)
/// }
/// ```
///
/// # Errors
/// [`Error::Preempted`] on every rank, after a checkpoint, if one of them was asked to stop; [`Error::NotFinite`] on
/// every rank; those of the task.
pub fn train<T: Task>(rank: &Rank, task: T, spec: TaskSpec, sgd: Sgd, options: Options) -> Result<(T, Trained), Error> {
    let mut driver = Driver::new(rank, task, spec, sgd, options);
    driver.resume()?;
    driver.run()?;
    Ok((driver.task, driver.trained))
}

pub(super) struct Driver<'a, T> {
    pub(super) rank: &'a Rank,
    pub(super) task: T,
    pub(super) spec: TaskSpec,
    pub(super) clock: Clock,
    pub(super) sgd: Sgd,
    pub(super) reducer: Option<Reducer>,
    pub(super) bucket_order: Option<Vec<Vec<usize>>>,
    pub(super) options: Options,
    pub(super) writer: Option<Writer>,
    /// The state that training begins with is the final one, and is not a checkpoint of this run yet.
    pub(super) unsaved: bool,
    pub(super) trained: Trained,
    /// The state at the last exchange of measurements; `None` if there is no memory for it.
    pub(super) rewind: Option<Rewind>,
    /// The last measurements, in order.
    pub(super) recent: VecDeque<Step>,
    pub(super) sync: SyncSchedule,
    meter: Meter,
}

impl<'a, T: Task> Driver<'a, T> {
    fn new(rank: &'a Rank, task: T, spec: TaskSpec, sgd: Sgd, options: Options) -> Self {
        Self {
            rank,
            task,
            clock: Clock::new(spec.epochs, spec.steps_per_epoch),
            sgd,
            reducer: None,
            bucket_order: None,
            options,
            writer: None,
            unsaved: false,
            trained: Trained::default(),
            meter: Meter::new(spec.batch_size, spec.epochs, spec.steps_per_epoch),
            rewind: None,
            recent: VecDeque::new(),
            sync: SyncSchedule::new(),
            spec,
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        if self.rank.is_first() {
            let (checkpoints, policy) = (self.options.checkpoints.clone(), self.options.policy.clone());
            self.writer = Some(Writer::start(checkpoints, policy, self.rank.sink.clone())?);
        }
        if self.unsaved {
            self.save()?;
        }
        self.keep_first_state();
        if self.task.epoch_end_pending(&self.clock) {
            self.end_epoch()?;
        }
        while !self.clock.is_done() {
            self.epoch()?;
            self.end_epoch()?;
        }
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.rank.barrier("the end of the stage")?;
        self.trained.images_per_second = self.meter.images_per_second();
        (self.trained.step, self.trained.epoch) = (self.clock.step, self.clock.epoch());
        Ok(())
    }

    /// The rest of the epoch in progress.
    fn epoch(&mut self) -> Result<(), Error> {
        let epoch = self.clock.epoch();
        let mut batches = self.task.batches(&self.clock)?;
        self.rank.sink.send(&Event::Phase { phase: RankPhase::Training });
        self.meter.restart();
        let mut waited = batches.wait();
        while self.clock.epoch() == epoch {
            let mut context = StepContext {
                rank: self.rank,
                clock: self.clock,
                sgd: &mut self.sgd,
                meter: &mut self.meter,
                reducer: self.reducer.as_mut(),
            };
            if self.task.before_step(&mut context)?.is_break() {
                return self.preempt();
            }
            let Some(loaded) = batches.next()? else {
                return Err(Error::Data(simsiam_data::Error::Worker { what: "ended before the epoch's end".into() }));
            };
            for image in &loaded.replaced {
                tracing::warn!("replaced {} by sample {}: {}", image.name, image.by, image.reason);
                context.meter.corrupt += 1;
            }
            let loss = self.task.step(&mut context, loaded.batch)?;
            self.clock.step += 1;
            let wait = batches.wait();
            self.meter.step(&loss, wait - waited)?;
            waited = wait;
            if let Some(writer) = &mut self.writer {
                writer.check()?;
            }
            self.sync.alive(&self.rank.sink);
            let save = self.task.checkpoint_due(&self.clock, &self.options.policy);
            // A rank that is alone needs no agreement, so it stops after the step in progress.
            let alone_and_asked = self.rank.peers().is_none() && self.rank.stop_requested();
            if save || self.clock.is_epoch_end() || self.sync.due(self.clock.step) || alone_and_asked {
                let flow = self.synchronise()?;
                if save || flow.is_break() {
                    self.save()?;
                }
                if flow.is_break() {
                    return self.preempt();
                }
            }
        }
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<(), Error> {
        match self.task.end_of_epoch(&self.clock, self.trained.loss.unwrap_or(f64::NAN)) {
            Err(Error::Terminated) => self.preempt(),
            Ok(EpochEnd::Save) => self.save(),
            Ok(EpochEnd::Continue) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The ranks exchange their measurements: all see the same means and come to the same decision, so they diverge or
    /// stop together. `Break` if any rank was asked to stop.
    fn synchronise(&mut self) -> Result<ControlFlow<()>, Error> {
        let stop = f64::from(u8::from(self.rank.stop_requested()));
        let mut own = vec![self.meter.mean_loss()?, self.meter.mean_step_seconds(), stop];
        own.extend(self.task.statistics()?);
        let world = self.rank.info.world as f64;
        let sums = self.rank.all_reduce_sum(&own, &format!("step {}", self.clock.step))?;
        let loss = match self.spec.loss {
            LossReduction::Mean => sums[0] / world,
            LossReduction::Sum => sums[0],
        };
        let statistics: Vec<f64> = sums[3..].iter().map(|sum| sum / world).collect();
        self.sync.synchronised(self.clock.step, sums[1] / world);
        if !loss.is_finite() || statistics.iter().any(|value| !value.is_finite()) {
            return Err(self.not_finite(loss));
        }
        let measured =
            Step { gpu_memory: device::memory(self.rank.device), ..self.meter.measure(self.clock.step, loss) };
        let measured = self.task.report(&self.clock, &statistics, measured)?;
        self.trained.loss = Some(loss);
        self.remember(&measured);
        self.keep_state();
        self.rank.sink.send(&Event::Step(measured));
        Ok(if sums[2] > 0.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}
