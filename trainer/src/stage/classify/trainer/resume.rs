//! Where a stage goes on, and what it leaves for that.

use std::time::Instant;

use simsiam_recipe::digest_of;
use tch::Tensor;

use super::Trainer;
use crate::checkpoint::{Environment, Snapshot, State, snapshot, store};
use crate::error::Error;
use crate::telemetry::event::Event;

impl Trainer<'_> {
    /// Rank 0 finds the stage's latest checkpoint and gives it to all.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let own = if self.rank.is_first() {
            let attempt = match self.job.attempt {
                Some(attempt) => attempt,
                None => self.checkpoints.next_attempt()?,
            };
            let found = self.checkpoints.latest()?;
            if let Some(found) = &found {
                snapshot::restore_tensors(self.saved(), &found.model, &found.uri)?;
                if found.state.step > 0 {
                    snapshot::restore_tensors(self.optimizer.buffers(), &found.optimizer, &found.uri)?;
                }
                for difference in found.state.environment.differences(&Environment::of(self.rank)) {
                    tracing::warn!("resuming {}: {difference}; the last bits may differ", found.uri);
                }
                self.rank.sink.send(&Event::Resumed { step: found.state.step, uri: found.uri.clone() });
            }
            Some((attempt, found.map(|found| found.state)))
        } else {
            None
        };
        let (attempt, state) = self.rank.broadcast_object::<(u32, Option<State>)>("resume", own)?;
        self.attempt = attempt;
        if let Some(state) = state {
            self.step = state.step;
            self.judged = state.judged.unwrap_or_default();
            self.bucket_order = state.bucket_order;
            if state.step > 0 {
                self.optimizer.restored();
            }
        }
        self.rank.broadcast(self.network.tensors().map(|(_, t)| t), "broadcast of the network")?;
        self.rank.broadcast(self.optimizer.buffers().map(|(_, t)| t), "broadcast of the momentum")?;
        // A frozen backbone has no gradients to reduce, and a classifier's are few.
        if self.frozen.is_none() {
            let order = self.bucket_order.clone();
            self.reducer = self.rank.reducer(self.network.params(), self.job.buckets, order)?;
        }
        Ok(())
    }

    /// What a checkpoint holds: what this stage trains. A frozen backbone is in the encoder's.
    pub(super) fn saved(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let all = self.frozen.is_none();
        let (classifier, network) = (self.network.classifier_tensors(), self.network.tensors());
        classifier.filter(move |_| !all).chain(network.filter(move |_| all))
    }

    pub(super) fn save(&mut self) -> Result<(), Error> {
        if let Some(reducer) = &self.reducer {
            self.bucket_order = reducer.order().or(self.bucket_order.take());
        }
        if !self.rank.is_first() {
            return Ok(());
        }
        let start = Instant::now();
        let state = State {
            step: self.step,
            epoch: self.step / self.steps_per_epoch,
            steps_per_epoch: self.steps_per_epoch,
            attempt: self.attempt,
            seed: self.protocol().seed(),
            samples: self.source.len() as u64,
            digest: digest_of(&self.arithmetic),
            arithmetic: self.arithmetic.clone(),
            bucket_order: self.bucket_order.clone(),
            judged: Some(self.judged.clone()),
            environment: Environment::of(self.rank),
        };
        let snapshot = Snapshot::of(self.saved(), self.optimizer.state(), state)?;
        if let Some(writer) = &mut self.writer {
            writer.save(snapshot)?;
        }
        self.rank.sink.send(&Event::CheckpointStall { seconds: start.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Every rank was asked to stop and agreed to; the checkpoint must stand before anyone leaves.
    pub(super) fn preempted(&mut self) -> Result<Error, Error> {
        self.save()?;
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.rank.barrier("the checkpoint before a stop")?;
        let name = store::Name { step: self.step, attempt: self.attempt };
        Ok(Error::Preempted { step: self.step, uri: self.checkpoints.uri(name) })
    }
}
