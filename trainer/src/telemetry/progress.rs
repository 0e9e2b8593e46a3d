//! The progress document: what a person or the operator wants to know of a running stage.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::event::{Event, KnnScore, Phase, StageResult, Step};

/// Served as `/progress`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Name of the run.
    pub run: String,
    /// The stage under way.
    pub stage: String,
    /// What the ranks are at.
    pub phase: Option<Phase>,
    /// Finished epochs.
    pub epoch: u64,
    /// Epochs of the stage.
    pub epochs: u64,
    /// Finished steps.
    pub step: u64,
    /// Steps of the stage.
    pub steps: u64,
    /// Mean loss of the last interval.
    pub loss: Option<f64>,
    /// Mean per-channel std of z/‖z‖.
    pub output_std: Option<f64>,
    /// 1/√dim.
    pub healthy_std: Option<f64>,
    /// Images (two views each) a second over all ranks, smoothed.
    pub images_per_second: Option<f64>,
    /// The reported kNN accuracy in percent.
    pub knn_top1: Option<f64>,
    /// The best top-1 accuracy of the stage's classifier so far, in percent.
    pub linear_top1: Option<f64>,
    /// The last completed checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The checkpoint that this attempt started from.
    pub resumed_from: Option<Checkpoint>,
    /// When the stage should end, RFC 3339.
    pub eta: Option<String>,
    /// Images replaced so far since they could not be read.
    pub corrupt: u64,
    /// The stage's results, once it is done.
    pub result: Option<StageResult>,
    /// Have the ranks been silent for more than half of what their watchdog allows?
    pub quiet: bool,
    #[serde(skip)]
    last_event: Option<Instant>,
    /// What this node's ranks are at, wherever rank 0 is.
    #[serde(skip)]
    phase_here: Option<Phase>,
}

/// A checkpoint's step and address.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Finished steps.
    pub step: u64,
    /// Its address.
    pub uri: String,
}

impl Progress {
    /// The document of a stage that begins.
    pub fn new(run: &str, stage: &str) -> Self {
        Self { run: run.to_owned(), stage: stage.to_owned(), last_event: Some(Instant::now()), ..Self::default() }
    }

    /// How long no rank has said anything.
    pub fn silence(&self) -> Duration {
        self.last_event.map_or(Duration::ZERO, |t| t.elapsed())
    }

    /// How long the ranks may be silent, where `stall` is the bound on a step of training: before the first step they
    /// list and open the data, a checkpoint waits for the storage and an evaluation reads another data set, which takes
    /// longer without anything being wrong; and peers have all of `rendezvous` to come.
    pub fn patience(&self, stall: Duration, rendezvous: Duration) -> Duration {
        match self.phase_here {
            None | Some(Phase::Rendezvous) => stall.max(rendezvous) + Duration::from_secs(10),
            Some(Phase::Starting | Phase::Checkpointing | Phase::Evaluating) => stall * 3,
            Some(Phase::Training) => stall,
        }
    }

    /// Takes in what `rank` said.
    pub fn update(&mut self, rank: usize, event: &Event) {
        self.last_event = Some(Instant::now());
        if let Event::Phase { phase } = event {
            self.phase_here = Some(*phase);
        }
        if rank != 0 {
            return;
        }
        match event {
            Event::Phase { phase } => self.phase = Some(*phase),
            Event::Resumed { step, uri } => {
                self.step = *step;
                self.resumed_from = Some(Checkpoint { step: *step, uri: uri.clone() });
                self.checkpoint = self.resumed_from.clone();
            }
            Event::Step(step) => self.measured(step),
            Event::Checkpoint { step, uri, .. } => {
                self.checkpoint = Some(Checkpoint { step: *step, uri: uri.clone() });
            }
            Event::Knn { features, scores, .. } if features == "trained" => {
                self.knn_top1 = scores.first().map(|s| s.top1);
            }
            // Not that of the untrained encoder beside it.
            Event::Linear { stage, best_top1, .. } if *stage == self.stage => self.linear_top1 = Some(*best_top1),
            Event::Done(result) => self.result = Some((**result).clone()),
            _ => {}
        }
    }

    fn measured(&mut self, step: &Step) {
        (self.step, self.steps, self.epochs) = (step.step, step.steps, step.epochs);
        self.epoch = step.step * step.epochs / step.steps.max(1);
        self.loss = Some(step.loss);
        (self.output_std, self.healthy_std) = (step.output_std, step.healthy_std);
        self.corrupt = step.corrupt;
        let now = step.images as f64 / step.seconds.max(1e-9);
        let smooth = self.images_per_second.map_or(now, |before| 0.7 * before + 0.3 * now);
        self.images_per_second = Some(smooth);
        if let Some(left) = self.time_left(step) {
            self.eta = jiff::Timestamp::try_from(SystemTime::now() + left)
                .ok()
                .map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
    }

    fn time_left(&self, step: &Step) -> Option<Duration> {
        let images_a_step = step.images as f64 / step.step_seconds.len().max(1) as f64;
        let left = (step.steps - step.step.min(step.steps)) as f64 * images_a_step;
        Duration::try_from_secs_f64(left / self.images_per_second?).ok()
    }
}

/// The score that tables show, of several.
pub fn reported(scores: &Option<Vec<KnnScore>>) -> Option<f64> {
    scores.as_ref().and_then(|s| s.first()).map(|s| s.top1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_by_what_the_ranks_are_at() {
        let mut progress = Progress::new("r", "pretrain");
        let (stall, rendezvous) = (Duration::from_secs(10), Duration::from_secs(60));
        let mut patience = |phase| {
            // Of a node without rank 0.
            progress.update(3, &Event::Phase { phase });
            progress.patience(stall, rendezvous).as_secs()
        };
        assert_eq!(patience(Phase::Rendezvous), 70);
        assert_eq!(patience(Phase::Starting), 30);
        assert_eq!(patience(Phase::Training), 10);
        assert_eq!(patience(Phase::Checkpointing), 30);
        assert_eq!(progress.phase, None, "what is shown is rank 0's");
    }

    #[test]
    fn only_rank_0_moves_the_numbers_but_every_rank_is_a_sign_of_life() {
        let mut progress = Progress::new("r", "pretrain");
        let step = |step| {
            let (images, seconds) = (100, 2.0);
            Event::Step(Step { step, steps: 40, epochs: 4, loss: -0.5, images, seconds, ..Step::default() })
        };
        progress.last_event = Instant::now().checked_sub(Duration::from_secs(60));
        progress.update(1, &step(20));
        assert_eq!(progress.step, 0);
        assert!(progress.silence() < Duration::from_secs(1));
        progress.update(0, &step(10));
        assert_eq!((progress.step, progress.epoch, progress.loss), (10, 1, Some(-0.5)));
        assert_eq!(progress.images_per_second, Some(50.0));
    }
}
