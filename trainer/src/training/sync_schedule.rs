//! When the ranks compare notes: seldom enough to cost nothing, often enough that a rank which is asked to stop is heard.

use std::time::Instant;

use crate::telemetry::Sink;
use crate::telemetry::event::Event;

/// They do so every so many steps at most,
const STEPS: u64 = 10;
/// and about so many seconds.
const SECONDS: f64 = 10.0;

/// The next meeting, after the same step on every rank, and signs of life between.
#[derive(Debug)]
pub struct SyncSchedule {
    next: u64,
    told: Instant,
}

impl SyncSchedule {
    /// The ranks meet after the first step from now on.
    pub fn new() -> Self {
        Self { next: 0, told: Instant::now() }
    }

    /// Whether they meet after `step`.
    pub fn due(&self, step: u64) -> bool {
        step >= self.next
    }

    /// They met after `step`; `seconds` that a step takes must be the mean over them, so that all agree on the next time.
    pub fn met(&mut self, step: u64, seconds: f64) {
        self.next = step + interval(seconds);
    }

    /// Says now and then that this rank lives, however slow its steps are.
    pub fn alive(&mut self, sink: &Sink) {
        if self.told.elapsed().as_secs_f64() > SECONDS {
            sink.send(&Event::Alive);
            self.told = Instant::now();
        }
    }
}

impl Default for SyncSchedule {
    fn default() -> Self {
        Self::new()
    }
}

/// Steps until they meet again, when a step takes so many seconds.
fn interval(step_seconds: f64) -> u64 {
    // `as` takes NaN for 0.
    ((SECONDS / step_seconds.max(1e-9)) as u64).clamp(1, STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_steps_meet_more_often() {
        assert_eq!([0.0, 0.1, 1.0, 3.0, 60.0, f64::NAN].map(interval), [10, 10, 10, 3, 1, 10]);
    }

    #[test]
    fn the_first_step_meets_and_then_by_the_interval() {
        let mut control = SyncSchedule::new();
        assert!(control.due(1));
        control.met(1, 3.0);
        assert!(!control.due(3) && control.due(4));
    }
}
