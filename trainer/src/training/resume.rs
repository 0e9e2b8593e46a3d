//! How training resumes, and what it saves for that. The driver owns the promise that an interrupted run ends with the
//! bits of an uninterrupted one: network, momentum, position and the order of the Reducer's buckets are all restored.

use std::time::Instant;

use simsiam_contract::RankPhase;
use simsiam_recipe::digest_of;
use tch::Tensor;

use super::driver::Driver;
use super::task::Task;
use crate::checkpoint::store::{Name, sha256};
use crate::checkpoint::{Environment, Found, Restored, Snapshot, State, restore_latest, snapshot};
use crate::error::Error;
use crate::telemetry::event::Event;

impl<T: Task> Driver<'_, T> {
    /// Restores the latest valid checkpoint on every rank, or lets the task begin; then makes the Reducer.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        let rank = self.rank;
        let restored = restore_latest(rank, &self.options.checkpoints, |found| self.adopt(found), self.tensors())?;
        let mut record = None;
        match restored {
            Some(Restored { uri, state, model_sha256 }) => {
                if rank.is_first() {
                    tracing::info!("resuming from {uri}");
                    rank.sink.send(&Event::Resumed { step: state.step, uri: uri.clone() });
                }
                self.clock.step = state.step;
                self.sgd.set_restored(state.step > 0);
                self.bucket_order = state.bucket_order;
                self.trained.checkpoint = Some(uri);
                self.trained.weights_sha256 = Some(model_sha256);
                record = state.eval_record;
            }
            None => {
                let start = rank.on_rank_0("the start of training", || self.task.begin(&self.sgd))?;
                self.clock.step = start.step;
                self.sgd.set_restored(start.momentum);
                // Other weights that need no training become a checkpoint of this run, which the later stages evaluate.
                self.unsaved = self.clock.is_done();
                rank.broadcast(self.tensors(), "broadcast of the parameters")?;
            }
        }
        self.task.resumed(&self.clock, record);
        if self.spec.uses_reducer {
            let order = self.bucket_order.clone();
            self.reducer = rank.reducer(self.task.params(), self.options.buckets, order)?;
        }
        Ok(())
    }

    /// All tensors that must be the same on every rank: parameters, buffers and momentum.
    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let parameters = self.task.params().entries().iter().map(|entry| &entry.tensor);
        parameters.chain(self.sgd.buffers().map(|(_, tensor)| tensor))
    }

    /// Takes a checkpoint's tensors, after checking that it belongs to this run.
    fn adopt(&self, found: &Found) -> Result<(), Error> {
        let Found { uri, state, model, optimizer } = found;
        let refused = |message| Err(Error::Checkpoint { uri: uri.clone(), message });
        if state.digest != digest_of(&self.spec.arithmetic) {
            return refused(match difference(&state.arithmetic, &self.spec.arithmetic) {
                Some(what) => format!("{what}; restore the field, or choose another spec.output.uri"),
                None => "was written for another recipe; choose another spec.output.uri".to_owned(),
            });
        }
        if state.samples != self.spec.samples || state.steps_per_epoch != self.spec.steps_per_epoch {
            return refused(format!(
                "was written on {} images, spec.dataset.train now has {}; restore the data, or choose another spec.output.uri",
                state.samples, self.spec.samples
            ));
        }
        if state.listing.as_ref().is_some_and(|listing| *listing != self.spec.listing) && self.rank.is_first() {
            tracing::warn!(
                "resuming {uri}: spec.dataset.train has the same number of images as before but different names or \
                 classes; the sample order and the final weights will differ"
            );
        }
        snapshot::restore_tensors(self.task.checkpoint_tensors(), model, uri)?;
        if state.step > 0 {
            snapshot::restore_tensors(self.sgd.buffers(), optimizer, uri)?;
        }
        for difference in state.environment.differences(&Environment::of(self.rank)) {
            tracing::warn!(
                "resuming {uri}: {difference}; the result will not be bit-identical to that of an uninterrupted run"
            );
        }
        Ok(())
    }

    /// Copies the state to the host and passes it to the writer, unless it is saved already.
    pub(super) fn save(&mut self) -> Result<(), Error> {
        if let Some(reducer) = &self.reducer {
            self.bucket_order = reducer.order().or(self.bucket_order.take());
        }
        let name = Name { step: self.clock.step, attempt: self.options.attempt };
        let uri = self.options.checkpoints.uri(name);
        if !self.rank.is_first() || self.trained.checkpoint.as_ref() == Some(&uri) {
            return Ok(());
        }
        let start = Instant::now();
        self.rank.sink.send(&Event::Phase { phase: RankPhase::Checkpointing });
        let state = State {
            step: self.clock.step,
            epoch: self.clock.epoch(),
            steps_per_epoch: self.clock.steps_per_epoch,
            attempt: self.options.attempt,
            seed: self.spec.seed,
            samples: self.spec.samples,
            listing: Some(self.spec.listing.clone()),
            digest: digest_of(&self.spec.arithmetic),
            arithmetic: self.spec.arithmetic.clone(),
            bucket_order: self.bucket_order.clone(),
            eval_record: self.task.eval_record(),
            environment: Environment::of(self.rank),
        };
        let snapshot = Snapshot::of(self.task.checkpoint_tensors(), self.sgd.state(), state)?;
        if self.clock.is_done() {
            self.trained.weights_sha256 = Some(sha256(&snapshot.model_file()?));
        }
        self.trained.checkpoint = Some(uri);
        if let Some(writer) = &mut self.writer {
            writer.save(snapshot)?;
        }
        self.rank.sink.send(&Event::CheckpointStall { seconds: start.elapsed().as_secs_f64() });
        self.rank.sink.send(&Event::Phase { phase: RankPhase::Training });
        Ok(())
    }

    /// Every rank agreed to stop. Rank 0's checkpoint is complete before any of them exits.
    pub(super) fn preempt(&mut self) -> Result<(), Error> {
        self.save()?;
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.rank.barrier("the checkpoint before a stop")?;
        let name = Name { step: self.clock.step, attempt: self.options.attempt };
        Err(Error::Preempted { step: self.clock.step, uri: self.options.checkpoints.uri(name) })
    }
}

/// The first field in which two documents differ, as `spec.pretrain.arch was "resnet18", is "resnet50"`.
fn difference(was: &serde_json::Value, is: &serde_json::Value) -> Option<String> {
    fn walk(path: &str, was: &serde_json::Value, is: &serde_json::Value) -> Option<String> {
        use serde_json::Value::{Null, Object};
        match (was, is) {
            (Object(a), Object(b)) => {
                let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                keys.into_iter().find_map(|key| {
                    walk(&format!("{path}.{key}"), a.get(key).unwrap_or(&Null), b.get(key).unwrap_or(&Null))
                })
            }
            (a, b) if a == b => None,
            (a, b) => Some(format!("{path} was {a} when it was written, is {b} now")),
        }
    }
    walk("spec", was, is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn difference_of_documents_names_the_first_field() {
        let was = json!({"pretrain": {"arch": "resnet18", "lr": 0.05}});
        let is = json!({"pretrain": {"arch": "resnet50", "lr": 0.05}});
        assert_eq!(
            difference(&was, &is).as_deref(),
            Some(r#"spec.pretrain.arch was "resnet18" when it was written, is "resnet50" now"#)
        );
        assert_eq!(difference(&was, &was), None);
    }
}
