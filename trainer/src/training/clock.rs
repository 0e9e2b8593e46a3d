//! Where training is: steps and epochs.

/// Position in a stage that trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Finished optimiser steps since the beginning of the stage.
    pub step: u64,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
    /// Epochs of the stage.
    pub epochs: u64,
}

impl Clock {
    /// The beginning of a stage.
    pub fn new(epochs: u32, steps_per_epoch: u64) -> Self {
        Self { step: 0, steps_per_epoch, epochs: u64::from(epochs) }
    }

    /// Steps of the whole stage.
    pub fn total_steps(&self) -> u64 {
        self.steps_per_epoch * self.epochs
    }

    /// Whether every step is done.
    pub fn is_done(&self) -> bool {
        self.step >= self.total_steps()
    }

    /// Finished epochs, which is also the epoch, from 0, that the next step belongs to.
    pub fn epoch(&self) -> u64 {
        self.step / self.steps_per_epoch
    }

    /// The epoch, from 0, of the step that was finished last.
    pub fn last_epoch(&self) -> u64 {
        self.step.saturating_sub(1) / self.steps_per_epoch
    }

    /// Finished steps of the epoch in progress.
    pub fn step_in_epoch(&self) -> u64 {
        self.step % self.steps_per_epoch
    }

    /// Whether the step that was finished last is the last of its epoch.
    pub fn is_epoch_end(&self) -> bool {
        self.step_in_epoch() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_at_an_epoch_end_names_both_epochs() {
        let clock = Clock { step: 14, ..Clock::new(3, 7) };
        assert!(clock.is_epoch_end() && !clock.is_done());
        assert_eq!((clock.epoch(), clock.last_epoch(), clock.step_in_epoch(), clock.total_steps()), (2, 1, 0, 21));
        let clock = Clock { step: 15, ..clock };
        assert_eq!((clock.epoch(), clock.last_epoch(), clock.step_in_epoch()), (2, 2, 1));
        assert!(Clock { step: 21, ..clock }.is_done());
    }
}
