//! Alternation (section 5 of the paper): the targets of the next steps are computed with the current encoder and kept on
//! the host; the steps train towards them. An interval of one step is SimSiam itself.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Instant;

use simsiam_recipe::{self as recipe, Pretrain};
use tch::{Device, Tensor};

use super::batches::{ViewBatches, micro_batch_of};
use crate::dist::device::in_precision;
use crate::error::Error;
use crate::model::{Pass, SimSiam};
use crate::training::sync_schedule::SyncSchedule;
use crate::training::task::{Batches, StepContext};

/// The most memory that a rank's targets may take, in bytes: an epoch of ImageNet on a single rank fits.
const MOST_BYTES: u64 = 24 << 30;

/// Targets of one step: a pair of projections for each micro-batch, on the host.
pub(super) type Targets = Vec<[Tensor; 2]>;

/// The steps that share one computation of targets. Each epoch begins with a new interval; without alternation every step
/// is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    steps: u64,
    steps_per_epoch: u64,
}

impl Intervals {
    pub(super) fn new(alternation: Option<&recipe::Alternation>, steps_per_epoch: u64) -> Self {
        let steps = match alternation {
            None => 1,
            // `epoch: true`, where no steps are given.
            Some(alternation) => alternation.steps.map_or(steps_per_epoch, |n| u64::from(n).min(steps_per_epoch)),
        };
        Self { steps, steps_per_epoch }
    }

    /// Optimiser steps of an epoch.
    pub(super) fn steps_per_epoch(self) -> u64 {
        self.steps_per_epoch
    }

    /// The end of the last whole interval within `step` finished steps.
    pub(super) fn begin(self, step: u64) -> u64 {
        step - step % self.steps_per_epoch % self.steps
    }

    /// Whether `step` finished steps are whole intervals.
    pub(super) fn ends(self, step: u64) -> bool {
        self.begin(step) == step
    }

    /// From `step` finished steps to the end of the interval that the next one belongs to.
    fn left(self, step: u64) -> u64 {
        let epoch_ends = (step / self.steps_per_epoch + 1) * self.steps_per_epoch;
        (self.begin(step) + self.steps).min(epoch_ends) - step
    }

    /// Refuses intervals whose targets a rank could not keep.
    pub(super) fn check(self, pretrain: &Pretrain, world: usize) -> Result<(), Error> {
        let rows = u64::from(pretrain.batch_size) / world as u64;
        let bytes = self.steps * rows * 2 * u64::from(pretrain.dim) * 4;
        if pretrain.alternation.is_none() || bytes <= MOST_BYTES {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        Err(Error::config(
            "spec.pretrain.alternation",
            format!(
                "the targets of {} steps take {:.1} GiB of memory in each of {world} ranks, at most {} are allowed; use fewer steps or more ranks",
                self.steps,
                gib(bytes),
                gib(MOST_BYTES),
            ),
        ))
    }
}

/// The targets of a run with alternation; without it there are none.
pub(super) struct Alternation {
    intervals: Intervals,
    alternates: bool,
    /// Those of the interval's next steps.
    targets: VecDeque<Targets>,
}

impl Alternation {
    pub(super) fn new(pretrain: &Pretrain, steps_per_epoch: u64) -> Self {
        let alternation = pretrain.alternation.as_ref();
        let intervals = Intervals::new(alternation, steps_per_epoch);
        Self { intervals, alternates: alternation.is_some(), targets: VecDeque::new() }
    }

    pub(super) fn intervals(&self) -> Intervals {
        self.intervals
    }

    /// Whether the next step needs targets that were not computed yet.
    pub(super) fn needs_targets(&self) -> bool {
        self.alternates && self.targets.is_empty()
    }

    /// Computes the targets of the rest of the interval from `batches`, the same ones that its steps will see. `Break` if
    /// all ranks agreed to stop during it; nothing but time has passed then.
    pub(super) fn compute_targets(
        &mut self,
        model: &SimSiam,
        pretrain: &Pretrain,
        mut batches: ViewBatches,
        context: &mut StepContext,
    ) -> Result<ControlFlow<()>, Error> {
        let (rank, step) = (context.rank, context.clock.step);
        let pass = Pass::train(rank.peers());
        let micro_batches = i64::from(pretrain.accumulate);
        let (start, mut sync) = (Instant::now(), SyncSchedule::new());
        let count = self.intervals.left(step);
        for done in 1..=count {
            // What was replaced is counted and named by the step itself.
            let Some(loaded) = batches.next()? else { break };
            let mut targets = Targets::new();
            for pair in loaded.batch {
                for i in 0..micro_batches {
                    let views = micro_batch_of(&pair, i, micro_batches)?;
                    let forward = || model.targets([&views[0], &views[1]], pass);
                    let z = in_precision(rank.device, pretrain.precision, forward)?;
                    targets.push([z[0].f_to_device(Device::Cpu)?, z[1].f_to_device(Device::Cpu)?]);
                }
            }
            self.targets.push_back(targets);
            sync.alive(&rank.sink);
            if sync.due(done) || done == count {
                let stop = f64::from(u8::from(rank.stop_requested()));
                let own = [stop, start.elapsed().as_secs_f64() / done as f64];
                let sums = rank.all_reduce_sum(&own, &format!("the targets after step {step}"))?;
                if sums[0] > 0.0 {
                    self.targets.clear();
                    return Ok(ControlFlow::Break(()));
                }
                sync.synchronised(done, sums[1] / rank.info.world as f64);
            }
        }
        context.meter.waited(batches.wait());
        Ok(ControlFlow::Continue(()))
    }

    /// The targets of the next step on `device`; `None` without alternation.
    pub(super) fn next_targets(&mut self, device: Device) -> Result<Option<Targets>, Error> {
        let Some(targets) = self.targets.pop_front() else { return Ok(None) };
        let load = |[one, two]: &[Tensor; 2]| Ok([one.f_to_device(device)?, two.f_to_device(device)?]);
        targets.iter().map(load).collect::<Result<_, Error>>().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(steps: u32, steps_per_epoch: u64) -> Intervals {
        Intervals::new(Some(&recipe::Alternation { steps: Some(steps), epoch: false }), steps_per_epoch)
    }

    #[test]
    fn intervals_restart_with_each_epoch() {
        let ends = |intervals: Intervals| (0..=14).filter(|&step| intervals.ends(step)).collect::<Vec<_>>();
        assert_eq!(ends(every(3, 7)), [0, 3, 6, 7, 10, 13, 14]);
        assert_eq!(ends(every(100, 7)), [0, 7, 14]);
        assert_eq!(ends(Intervals::new(Some(&recipe::Alternation { steps: None, epoch: true }), 7)), [0, 7, 14]);
        assert_eq!(ends(Intervals::new(None, 7)), (0..=14).collect::<Vec<_>>());
        assert_eq!((0..7).map(|step| every(3, 7).left(step)).collect::<Vec<_>>(), [3, 2, 1, 3, 2, 1, 1]);
        assert_eq!((7..14).map(|step| every(3, 7).begin(step)).collect::<Vec<_>>(), [7, 7, 7, 10, 10, 10, 13]);
    }

    #[test]
    fn targets_beyond_the_memory_bound_are_refused() {
        let recipe = |steps| Pretrain {
            batch_size: 512,
            alternation: Some(recipe::Alternation { steps: Some(steps), epoch: false }),
            ..Pretrain::default()
        };
        let check = |steps, epoch, world| every(steps, epoch).check(&recipe(steps), world);
        // 512 images × 2 views × 2048 channels × 4 bytes: 8 MiB a step.
        assert!(check(3072, 5000, 1).is_ok());
        let error = check(3073, 5000, 1).unwrap_err();
        assert!(error.to_string().contains("24.0 GiB of memory in each of 1 ranks"), "{error}");
        assert_eq!(error.exit_code().code(), 78);
        assert_eq!(error.subject().as_deref(), Some("spec.pretrain.alternation"));
        assert!(check(5000, 5000, 2).is_ok(), "two ranks keep half each");
        assert!(check(5000, 2502, 1).is_ok(), "an epoch of ImageNet");
    }
}
