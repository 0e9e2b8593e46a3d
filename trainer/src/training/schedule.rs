//! Learning rates over a run, in closed form: no state to save.

use simsiam_recipe::{Pretrain, Schedule};

/// Learning rates of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of backbone and projector.
    pub encoder: f64,
    /// Of the predictor.
    pub predictor: f64,
}

impl Rates {
    /// One rate per parameter group of [`Sgd::simsiam`](super::sgd::Sgd::simsiam).
    pub fn groups(self) -> [f64; 2] {
        [self.encoder, self.predictor]
    }
}

/// The learning rates of a pre-training run.
#[derive(Clone, Copy, Debug)]
pub struct LearningRate {
    peak: f64,
    schedule: Schedule,
    fix_predictor: bool,
    epochs: u64,
    warmup_epochs: u64,
    steps_per_epoch: u64,
}

impl LearningRate {
    /// The rates of a recipe, of which the highest is [`Pretrain::peak_lr`].
    pub fn new(recipe: &Pretrain, steps_per_epoch: u64) -> Self {
        Self {
            peak: recipe.peak_lr(),
            schedule: recipe.schedule,
            fix_predictor: recipe.fix_pred_lr,
            epochs: u64::from(recipe.epochs),
            warmup_epochs: u64::from(recipe.warmup_epochs),
            steps_per_epoch,
        }
    }

    /// The rates of a step, counted from 0 over the whole run.
    pub fn at(&self, step: u64) -> Rates {
        let encoder = self.peak * self.factor(step);
        // The paper keeps the predictor's rate at its peak (section 4.2, table 1 (c)); a warm-up still applies.
        let predictor = if self.fix_predictor { self.peak * self.warmup(step).unwrap_or(1.0) } else { encoder };
        Rates { encoder, predictor }
    }

    /// The factor during warm-up, which rises by equal steps to 1; `None` after it.
    fn warmup(&self, step: u64) -> Option<f64> {
        let steps = self.warmup_epochs * self.steps_per_epoch;
        (step < steps).then(|| (step + 1) as f64 / steps as f64)
    }

    fn factor(&self, step: u64) -> f64 {
        if let Some(share) = self.warmup(step) {
            return share;
        }
        // Cosine over the epochs after the warm-up; without a warm-up this is ½(1 + cos(π·epoch/epochs)).
        let (done, all) = match self.schedule {
            Schedule::Constant => return 1.0,
            Schedule::CosinePerEpoch => {
                (step / self.steps_per_epoch - self.warmup_epochs, self.epochs - self.warmup_epochs)
            }
            Schedule::CosinePerStep => (
                step - self.warmup_epochs * self.steps_per_epoch,
                (self.epochs - self.warmup_epochs) * self.steps_per_epoch,
            ),
        };
        half_cosine(done, all)
    }
}

/// Half a cosine, from 1 at the start to 0 at the end: ½(1 + cos(π·done/all)).
pub fn half_cosine(done: u64, all: u64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * done as f64 / all.max(1) as f64).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(schedule: Schedule, warmup_epochs: u64) -> LearningRate {
        LearningRate { peak: 0.1, schedule, fix_predictor: true, epochs: 100, warmup_epochs, steps_per_epoch: 10 }
    }

    #[test]
    fn cosine_per_epoch_is_constant_within_an_epoch() {
        let lr = schedule(Schedule::CosinePerEpoch, 0);
        assert_eq!(lr.at(0).encoder, 0.1);
        assert_eq!(lr.at(9).encoder, 0.1);
        assert!(lr.at(10).encoder < 0.1);
        assert!((lr.at(500).encoder - 0.05).abs() < 1e-12, "half the peak at half the run");
        let last = 0.1 * 0.5 * (1.0 + (std::f64::consts::PI * 0.99).cos());
        assert!((lr.at(999).encoder - last).abs() < 1e-15);
        assert_eq!(lr.at(999).predictor, 0.1);
    }

    #[test]
    fn cosine_per_step_falls_with_every_step() {
        let lr = schedule(Schedule::CosinePerStep, 0);
        assert!((0..999).all(|s| lr.at(s + 1).encoder < lr.at(s).encoder));
    }

    #[test]
    fn warm_up_rises_to_the_peak_for_both_groups() {
        let lr = schedule(Schedule::CosinePerEpoch, 10);
        assert!((lr.at(0).encoder - 0.001).abs() < 1e-15);
        assert!((lr.at(49).predictor - 0.05).abs() < 1e-15);
        assert_eq!(lr.at(99).encoder, 0.1);
        assert_eq!(lr.at(100).encoder, 0.1);
    }
}
