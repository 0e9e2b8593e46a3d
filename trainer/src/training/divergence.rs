//! What is left of a run whose loss is not finite: where the first such value appeared, the samples of that step's batch, and
//! the last measurements, in one file of the output.
//!
//! The ranks notice a loss that is not finite when they exchange measurements, up to ten steps late, and by then all weights
//! are NaN. They go back to the last exchange and repeat the steps since then with the same samples, looking at weights,
//! outputs, gradients and updates in each. Whatever fails here is a warning; the run ends as it would have without it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::clock::Clock;
use super::driver::Driver;
use super::meter::Meter;
use super::rewind::Rewind;
use super::task::{Batches, StepContext, Task};
use crate::dist::Rank;
use crate::error::Error;
use crate::model::probe::{self, Place, What};
use crate::telemetry::event::Step;
use crate::telemetry::journal::Training;

/// The folder in the output.
pub const FOLDER: &str = "diverged";
/// The operation, for messages about lost peers.
const DURING: &str = "the search for the place of a loss that is not finite";
/// Measurements that are kept for the file.
const RECENT: usize = 20;
/// Most names of samples of each rank.
const MOST_SAMPLES: usize = 1000;
/// Most characters of a name.
const MOST_LETTERS: usize = 300;

/// A file of [`FOLDER`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    stage: &'a str,
    attempt: u32,
    /// The step after which the loss was found not to be finite.
    step: u64,
    epoch: u64,
    /// The loss as text, which JSON has no number for.
    loss: String,
    /// What is known of the place, in words.
    found: &'a str,
    ranks: &'a [Sighting],
    /// The last measurements before, the newest last.
    recent: Vec<Recent>,
}

/// What a rank found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sighting {
    rank: usize,
    /// The step, counted from 1; `None` if no value of the repeated steps was not finite.
    step: Option<u64>,
    /// The first such value on this rank.
    place: Option<Place>,
    /// Names of the samples of this rank's share of the step's batch, as the loader lists them.
    samples: Vec<String>,
    /// Samples beyond the first thousand.
    omitted: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recent {
    step: u64,
    epoch: u64,
    #[serde(flatten)]
    measured: Training,
}

impl<T: Task> Driver<'_, T> {
    /// Keeps a measurement for the file.
    pub(super) fn remember(&mut self, step: &Step) {
        remember(&mut self.recent, step);
    }

    /// Copies the state before the first step.
    pub(super) fn keep_first_state(&mut self) {
        let momentum = !self.sgd.state().is_empty();
        self.rewind = kept(Rewind::of(self.changing(), self.clock.step, momentum));
    }

    /// Copies the state after an exchange of measurements.
    pub(super) fn keep_state(&mut self) {
        if let Some(mut rewind) = self.rewind.take() {
            let momentum = !self.sgd.state().is_empty();
            let updated = rewind.update(self.changing(), self.clock.step, momentum);
            self.rewind = kept(updated.map(|()| rewind));
        }
    }

    /// What a step changes: the tensors of a checkpoint and the momentum.
    fn changing(&self) -> impl Iterator<Item = &Tensor> {
        let tensors = self.task.checkpoint_tensors().into_iter();
        tensors.chain(self.sgd.buffers()).map(|(_, tensor)| tensor)
    }

    /// The error of a loss that is not finite, after its place was looked for and a file was written.
    pub(super) fn not_finite(&mut self, loss: f64) -> Error {
        let (step, epoch, field) = (self.clock.step, self.clock.last_epoch(), self.spec.lr_field);
        let found = match self.explain(loss) {
            Ok(found) => format!(": {found}"),
            Err(e) => {
                tracing::warn!("where the loss became {loss} could not be found: {e}");
                String::new()
            }
        };
        Error::NotFinite { loss, step, epoch, field, found }
    }

    /// Looks for the place on every rank and writes the file on rank 0; returns the same words on every rank.
    fn explain(&mut self, loss: f64) -> Result<String, Error> {
        let (step, epoch) = (self.clock.step, self.clock.last_epoch());
        let own = self.look_again(step)?;
        let ranks = gathered(self.rank, &own)?;
        let (rank, options, spec, recent) = (self.rank, &self.options, &self.spec, &self.recent);
        rank.on_rank_0(DURING, || {
            let found = in_words(&ranks);
            let recent = recent.iter().map(|s| Recent { step: s.step, epoch: s.epoch, measured: Training::of(s) });
            let report = Report {
                stage: &spec.stage,
                attempt: options.attempt,
                step,
                epoch,
                loss: loss.to_string(),
                found: &found,
                ranks: &ranks,
                recent: recent.collect(),
            };
            let name = format!("{FOLDER}/{}-a{}.json", spec.stage, options.attempt);
            let text = serde_json::to_vec_pretty(&report).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
            match options.storage.put(&name, text) {
                Ok(()) => Ok(format!("{found}; samples and measurements are in {}", options.storage.uri(&name))),
                Err(e) => {
                    tracing::warn!("{name} could not be written: {e}");
                    Ok(found)
                }
            }
        })
    }

    /// Repeats the steps since the last exchange up to the first in which a rank finds a value that is not finite. All
    /// ranks do the same, since their batch norms and gradients are synchronised.
    fn look_again(&mut self, until: u64) -> Result<Sighting, Error> {
        let mut sighting = Sighting { rank: self.rank.info.rank, ..Sighting::default() };
        let rewind = self.rewind.take().filter(|_| self.task.is_repeatable());
        if any(self.rank, rewind.is_none())? {
            return Ok(sighting);
        }
        let Some(rewind) = rewind else { return Ok(sighting) };
        rewind.restore(self.changing())?;
        self.sgd.set_restored(rewind.momentum);
        let mut clock = Clock { step: rewind.step, ..self.clock };
        let mut batches = self.task.batches(&clock)?;
        let mut meter = Meter::new(self.spec.batch_size, self.spec.epochs, self.spec.steps_per_epoch);
        while clock.step < until {
            let Some(loaded) = batches.next()? else { break };
            let mut place = self.look_before(&loaded.batch)?;
            let mut found = any(self.rank, place.is_some())?;
            if !found {
                let (rank, sgd, reducer) = (self.rank, &mut self.sgd, self.reducer.as_mut());
                let mut context = StepContext { rank, clock, sgd, meter: &mut meter, reducer };
                let _ = self.task.step(&mut context, loaded.batch)?;
                place = look_after(&self.task)?;
                found = any(self.rank, place.is_some())?;
            }
            self.sync.alive(&self.rank.sink);
            clock.step += 1;
            if found {
                let names = loaded.ids.iter().take(MOST_SAMPLES).map(|id| self.task.sample_name(*id));
                sighting.samples = names.map(|name| name.chars().take(MOST_LETTERS).collect()).collect();
                sighting.omitted = loaded.ids.len().saturating_sub(MOST_SAMPLES);
                (sighting.step, sighting.place) = (Some(clock.step), place);
                break;
            }
        }
        Ok(sighting)
    }

    /// Looks at the weights, the images and what the layers make of them.
    fn look_before(&self, batch: &<T::Batches as Batches>::Batch) -> Result<Option<Place>, Error> {
        let weights = probe::in_weights(self.task.params(), What::Weight)?;
        // On every rank, whatever the weights are: batch norm waits for all.
        let forward = tch::no_grad(|| self.task.probe(batch))?;
        Ok(weights.or(forward))
    }
}

fn remember(recent: &mut VecDeque<Step>, step: &Step) {
    if recent.len() == RECENT {
        recent.pop_front();
    }
    recent.push_back(Step { step_seconds: Vec::new(), allreduce_seconds: Vec::new(), ..step.clone() });
}

/// The copy, or `None` and a warning: training goes on without it.
fn kept(rewind: Result<Rewind, Error>) -> Option<Rewind> {
    rewind.map_err(|e| tracing::warn!("if the loss becomes NaN, its place will not be found: {e}")).ok()
}

/// Whether it is so on any rank.
fn any(rank: &Rank, so: bool) -> Result<bool, Error> {
    Ok(rank.all_reduce_sum(&[f64::from(u8::from(so))], DURING)?[0] > 0.0)
}

/// Looks at the gradients, then at the updated weights.
fn look_after<T: Task>(task: &T) -> Result<Option<Place>, Error> {
    match probe::in_gradients(task.params())? {
        Some(place) => Ok(Some(place)),
        None => probe::in_weights(task.params(), What::Update),
    }
}

/// The sightings of all ranks, in rank order.
fn gathered(rank: &Rank, own: &Sighting) -> Result<Vec<Sighting>, Error> {
    let garbled = |e: serde_json::Error| Error::Internal(format!("the sightings of the ranks: {e}"));
    // One line each, so that the parts are distinct.
    let mut line = serde_json::to_vec(own).map_err(garbled)?;
    line.push(b'\n');
    let bytes = Tensor::f_from_slice(&line)?.f_to_device(rank.device)?;
    let all = rank.all_gather_rows(&bytes, DURING)?;
    let all = Vec::<u8>::try_from(&all.f_to_device(Device::Cpu)?.f_to_kind(Kind::Uint8)?)?;
    all.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(garbled)
}

/// What the ranks found, as the middle of a sentence.
fn in_words(ranks: &[Sighting]) -> String {
    let first = ranks.iter().find_map(|of| Some((of.rank, of.step?, of.place.as_ref()?)));
    match first {
        Some((rank, step, place)) if ranks.len() > 1 => format!("first in step {step} on rank {rank}, in {place}"),
        Some((_, step, place)) => format!("first in step {step}, in {place}"),
        None => "the layer was not found by repeating the last steps".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::testing;

    fn sighting(rank: usize, place: Option<Place>) -> Sighting {
        let samples = vec![format!("{rank}/ä\n.png")];
        Sighting { rank, step: Some(7), place, samples, omitted: 0 }
    }

    #[test]
    fn sightings_of_all_ranks_reach_each_and_the_first_place_is_named() {
        let place = Place::of_tensor(What::Gradient, "encoder.fc.0.weight");
        let of = |rank| sighting(rank, (rank == 1).then(|| place.clone()));
        let got = testing::on_each_rank(2, |rank| gathered(rank, &of(rank.info.rank)).unwrap());
        assert_eq!(got, [[of(0), of(1)], [of(0), of(1)]]);
        assert_eq!(in_words(&got[0]), "first in step 7 on rank 1, in the gradient of encoder.fc.0.weight");
        let alone = gathered(&Rank::alone(1).unwrap(), &of(1)).unwrap();
        assert_eq!(in_words(&alone), "first in step 7, in the gradient of encoder.fc.0.weight");
        assert!(in_words(&[Sighting::default()]).contains("not found"));
    }

    #[test]
    fn only_the_last_measurements_are_kept() {
        let mut recent = VecDeque::new();
        (0..50).for_each(|step| remember(&mut recent, &Step { step, ..Step::default() }));
        assert_eq!(
            (recent.len(), recent.front().map(|s| s.step), recent.back().map(|s| s.step)),
            (RECENT, Some(30), Some(49))
        );
    }
}
