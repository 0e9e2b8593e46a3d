//! Where pre-training begins, and what it leaves so that it can go on: checkpoints of this run, or another's weights.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::checkpoint::{self, Environment, Snapshot, State, snapshot};
use crate::error::Error;
use crate::telemetry::event::{Event, Phase};
use crate::weights;

/// Where training begins; rank 0 tells the others.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Start {
    step: u64,
    bucket_order: Option<Vec<Vec<usize>>>,
    /// The momentum buffers are filled.
    momentum: bool,
    /// From a checkpoint of this run.
    resumed: bool,
}

impl Trainer<'_> {
    /// Rank 0 finds the latest valid checkpoint and gives it to all; then the Reducer is made.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let own = if self.rank.is_first() {
            let attempt = match self.attempt {
                Some(attempt) => attempt,
                None => self.checkpoints.next_attempt()?,
            };
            let start = match (self.checkpoints.latest()?, &self.recipe.weights) {
                (Some(found), _) => self.adopt(found)?,
                (None, Some(uri)) => self.begin_with(uri)?,
                (None, None) => Start::default(),
            };
            Some((attempt, start))
        } else {
            None
        };
        let (attempt, start) = self.rank.broadcast_object("resume", own)?;
        self.attempt = Some(attempt);
        self.step = start.step;
        self.bucket_order = start.bucket_order;
        self.sgd.restored(start.momentum);
        // Other weights that need no training become a checkpoint of this run: the later stages judge it.
        self.unsaved = !start.resumed && self.step == self.total_steps();
        if self.rank.is_first() && !self.intervals.ends(self.step) {
            tracing::warn!(
                "resuming within an interval of spec.pretrain.alternation: the targets of its rest come from the weights as they are now, so the run will differ from an undisturbed one"
            );
        }
        let tensors = self.model.params().entries().iter().map(|e| &e.tensor);
        self.rank.broadcast(tensors, "broadcast of the parameters")?;
        self.rank.broadcast(self.sgd.buffers().map(|(_, t)| t), "broadcast of the momentum")?;
        self.reducer = self.rank.reducer(self.model.params(), self.buckets, self.bucket_order.clone())?;
        Ok(())
    }

    /// Takes a checkpoint's tensors over, after checking that it belongs to this run.
    fn adopt(&mut self, found: checkpoint::Found) -> Result<Start, Error> {
        let (state, uri) = (found.state, found.uri);
        let digest = self.recipe.digest();
        if state.digest != digest {
            let message = match difference(&state.arithmetic, &self.recipe.arithmetic()) {
                Some(what) => format!("{what}; restore the field, or choose another spec.output.uri"),
                None => "was written for another recipe; choose another spec.output.uri".to_owned(),
            };
            return Err(Error::Checkpoint { uri, message });
        }
        if state.samples != self.source.len() as u64 || state.steps_per_epoch != self.steps_per_epoch {
            return Err(Error::Checkpoint {
                uri,
                message: format!(
                    "was written on {} images, spec.dataset.train now has {}; restore the data, or choose another spec.output.uri",
                    state.samples,
                    self.source.len()
                ),
            });
        }
        snapshot::restore_model(self.model.params(), &found.model, &uri)?;
        snapshot::restore_optimizer(&mut self.sgd, &found.optimizer, &uri)?;
        for difference in state.environment.differences(&Environment::of(self.rank)) {
            tracing::warn!("resuming {uri}: {difference}; the last bits will differ from an undisturbed run's");
        }
        self.result.weights_sha256 = Some(checkpoint::store::sha256(&found.model));
        self.result.checkpoint = Some(uri.clone());
        self.result.step = Some(state.step);
        self.result.epoch = Some(state.epoch);
        tracing::info!("resuming from {uri}");
        self.rank.sink.send(&Event::Resumed { step: state.step, uri });
        let momentum = state.step > 0;
        Ok(Start { step: state.step, bucket_order: state.bucket_order, momentum, resumed: true })
    }

    /// Takes what another file has of this network: its backbone, its heads if it has them, and if it has the momentum of
    /// all of that, the epochs it was trained for.
    fn begin_with(&mut self, uri: &str) -> Result<Start, Error> {
        let runtime = self.checkpoints.storage().runtime().clone();
        let weights = weights::open("spec.weights", uri, &self.recipe.output, &runtime)?;
        let heads = weights.fill_network(self.model.params())?;
        let whole = heads.projector && heads.predictor;
        let momentum = whole && weights.fill_optimizer(&self.sgd)?;
        let epochs = u64::from(self.pretrain.epochs);
        // What is trained to the end already needs no optimiser.
        let done = weights.epochs.filter(|&done| whole && (momentum || done >= epochs)).unwrap_or(0).min(epochs);
        let word = |taken| if taken { "taken" } else { "initialised" };
        tracing::info!(
            "beginning with {uri}: backbone taken, projector {}, predictor {}, momentum {}, {done} of {epochs} epochs done",
            word(heads.projector),
            word(heads.predictor),
            word(momentum),
        );
        let step = done * self.steps_per_epoch;
        (self.result.step, self.result.epoch) = (Some(step), Some(done));
        Ok(Start { step, bucket_order: None, momentum, resumed: false })
    }

    /// Copies the state to the host and hands it to the writer.
    pub(super) fn save(&mut self) -> Result<(), Error> {
        if let Some(reducer) = &self.reducer {
            self.bucket_order = reducer.order().or(self.bucket_order.take());
        }
        let name = checkpoint::store::Name { step: self.step, attempt: self.attempt.unwrap_or(1) };
        let uri = self.checkpoints.uri(name);
        if !self.rank.is_first() || self.result.checkpoint.as_ref() == Some(&uri) {
            return Ok(());
        }
        let start = Instant::now();
        self.rank.sink.send(&Event::Phase { phase: Phase::Checkpointing });
        let state = State {
            step: self.step,
            epoch: self.step / self.steps_per_epoch,
            steps_per_epoch: self.steps_per_epoch,
            attempt: name.attempt,
            seed: self.pretrain.seed,
            samples: self.source.len() as u64,
            digest: self.recipe.digest(),
            arithmetic: self.recipe.arithmetic(),
            bucket_order: self.bucket_order.clone(),
            judged: None,
            environment: Environment::of(self.rank),
        };
        let snapshot = Snapshot::take(self.model.params(), &self.sgd, state)?;
        if self.step == self.total_steps() {
            self.result.weights_sha256 = Some(checkpoint::store::sha256(&snapshot.model_file()?));
        }
        self.result.checkpoint = Some(uri);
        if let Some(writer) = &mut self.writer {
            writer.save(snapshot)?;
        }
        self.rank.sink.send(&Event::CheckpointStall { seconds: start.elapsed().as_secs_f64() });
        self.rank.sink.send(&Event::Phase { phase: Phase::Training });
        Ok(())
    }

    /// Every rank was asked to stop and agreed to; rank 0's checkpoint must stand before anyone leaves.
    pub(super) fn preempted(&mut self) -> Result<(), Error> {
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.rank.barrier("the checkpoint before a stop")?;
        let uri = self.result.checkpoint.clone().unwrap_or_default();
        Err(Error::Preempted { step: self.step, uri })
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
    fn the_differing_field_is_named() {
        let was = json!({"pretrain": {"arch": "resnet18", "lr": 0.05}});
        let is = json!({"pretrain": {"arch": "resnet50", "lr": 0.05}});
        assert_eq!(
            difference(&was, &is).as_deref(),
            Some(r#"spec.pretrain.arch was "resnet18" when it was written, is "resnet50" now"#)
        );
        assert_eq!(difference(&was, &was), None);
    }
}
