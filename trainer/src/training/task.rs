//! What a stage that trains adds to the [driver](super::driver).

use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use simsiam_data::Replaced;
use simsiam_recipe::CheckpointPolicy;
use tch::Tensor;
use tch_ext::c10d::Reducer;

use super::clock::Clock;
use super::meter::Meter;
use super::sgd::Sgd;
use crate::checkpoint::EvalRecord;
use crate::dist::{Rank, peer_lost};
use crate::error::Error;
use crate::model::Params;
use crate::model::probe::Place;
use crate::telemetry::event::Step;

/// The fixed facts of a task.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Name of the stage.
    pub stage: String,
    /// Epochs of the stage.
    pub epochs: u32,
    /// Images of a step, over all ranks.
    pub batch_size: u32,
    /// Optimiser steps of an epoch, at least 1.
    pub steps_per_epoch: u64,
    /// Samples of the training set.
    pub samples: u64,
    /// Digest of their names and classes.
    pub listing: String,
    /// The seed of order and augmentation.
    pub seed: u64,
    /// Everything that decides the outcome; a checkpoint with another value is refused.
    pub arithmetic: Value,
    /// How the loss of the ranks combines.
    pub loss: LossReduction,
    /// Field of the learning rate, named when the loss is not finite.
    pub lr_field: &'static str,
    /// Whether DDP's Reducer averages the gradients.
    pub uses_reducer: bool,
}

/// How the ranks' losses combine into the one that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReduction {
    /// Each rank's loss is a mean over its images.
    Mean,
    /// Each rank's loss is its part of the global batch's mean.
    Sum,
}

/// Where training begins without a checkpoint of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Steps that count as finished.
    pub step: u64,
    /// Whether the momentum buffers are filled.
    pub momentum: bool,
}

/// A batch on the rank's device.
pub struct Loaded<B> {
    /// The batch.
    pub batch: B,
    /// The samples' ids, if it has any.
    pub ids: Vec<u64>,
    /// Images of it that could not be read, with what replaced them.
    pub replaced: Vec<Replaced>,
}

/// The batches of one epoch, from the next step on.
pub trait Batches {
    /// One rank's share of a global batch.
    type Batch;

    /// The next batch, or `None` after the epoch's last.
    fn next(&mut self) -> Result<Option<Loaded<Self::Batch>>, Error>;

    /// How long [`next`](Self::next) has waited for data so far.
    fn wait(&self) -> Duration;
}

/// What a step works with.
pub struct StepContext<'a> {
    /// This rank.
    pub rank: &'a Rank,
    /// Position before the step.
    pub clock: Clock,
    /// The optimiser.
    pub sgd: &'a mut Sgd,
    /// Where the step's times go.
    pub meter: &'a mut Meter,
    pub(super) reducer: Option<&'a mut Reducer>,
}

impl StepContext<'_> {
    /// Announces the forward pass whose backward pass will reduce the gradients.
    pub fn prepare_forward(&mut self) -> Result<(), Error> {
        if let Some(reducer) = &mut self.reducer {
            reducer.prepare_forward().map_err(peer_lost("a step"))?;
            self.meter.reduced(reducer.take_exposed());
        }
        Ok(())
    }

    /// The backward pass of `loss`. The gradients become their mean over the ranks if there is a Reducer, else they are
    /// added to the local ones.
    pub fn backward_and_reduce(&mut self, loss: &Tensor) -> Result<(), Error> {
        match &mut self.reducer {
            Some(reducer) => reducer.backward(loss).map_err(peer_lost("a step")),
            None => Ok(tch_ext::backward(loss)?),
        }
    }
}

/// Whether the driver writes a checkpoint after an epoch's end was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// Go on.
    Continue,
    /// Write a checkpoint first: the end of the epoch changed what is saved.
    Save,
}

/// A stage that trains, as the driver sees it. All methods but [`begin`](Self::begin) run on every rank.
pub trait Task {
    /// The batches of an epoch.
    type Batches: Batches;

    /// The network.
    fn params(&self) -> &Params;

    /// The tensors that a checkpoint holds, by name.
    fn checkpoint_tensors(&self) -> Vec<(&str, &Tensor)>;

    /// Accuracy so far, saved with a checkpoint.
    fn eval_record(&self) -> Option<EvalRecord> {
        None
    }

    /// Fills the network where no checkpoint was found; on rank 0 only, the driver broadcasts the result.
    fn begin(&mut self, sgd: &Sgd) -> Result<Start, Error> {
        let _ = sgd;
        Ok(Start::default())
    }

    /// The network is filled; training continues at `clock`, with what a checkpoint recorded.
    fn resumed(&mut self, clock: &Clock, record: Option<EvalRecord>) {
        let _ = (clock, record);
    }

    /// The batches from the next step to the end of its epoch.
    fn batches(&mut self, clock: &Clock) -> Result<<Self as Task>::Batches, Error>;

    /// Work before a step; `Break` if all ranks agreed to stop during it.
    fn before_step(&mut self, context: &mut StepContext) -> Result<ControlFlow<()>, Error> {
        let _ = context;
        Ok(ControlFlow::Continue(()))
    }

    /// One optimiser step; returns this rank's loss, a scalar on its device.
    fn step(
        &mut self,
        context: &mut StepContext,
        batch: <<Self as Task>::Batches as Batches>::Batch,
    ) -> Result<Tensor, Error>;

    /// Whether the steps since the last exchange of measurements can be repeated from the state at that time.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Where a value is not finite in a batch or in what the network makes of it: the forward pass of
    /// [`step`](Self::step) with a [`Probe`](crate::model::probe::Probe), without a trace in the state. It makes the same
    /// collective calls on every rank.
    fn probe(&self, batch: &<<Self as Task>::Batches as Batches>::Batch) -> Result<Option<Place>, Error>;

    /// The name of a sample, by its id in [`Loaded::ids`].
    fn sample_name(&self, id: u64) -> String;

    /// Further scalars of the last step, to be averaged over the ranks for [`report`](Self::report).
    fn statistics(&mut self) -> Result<Vec<f64>, Error> {
        Ok(Vec::new())
    }

    /// Completes a measurement with what only this task knows, given the means of its [`statistics`](Self::statistics);
    /// an error ends training on all ranks alike.
    fn report(&mut self, clock: &Clock, statistics: &[f64], step: Step) -> Result<Step, Error>;

    /// Whether a checkpoint is due after the step just finished.
    fn checkpoint_due(&self, clock: &Clock, policy: &CheckpointPolicy) -> bool;

    /// Whether a resumed run was interrupted between the end of an epoch and its handling.
    fn epoch_end_pending(&self, clock: &Clock) -> bool {
        let _ = clock;
        false
    }

    /// The end of an epoch: evaluation. `loss` is the mean loss of the epoch's last interval.
    ///
    /// # Errors
    /// [`Error::Terminated`] on every rank if one was asked to stop; a checkpoint is then written.
    fn end_of_epoch(&mut self, clock: &Clock, loss: f64) -> Result<EpochEnd, Error>;
}
