//! When the ranks exchange measurements: rarely enough to cost nothing, often enough that a stop request is noticed.

use std::time::Instant;

use crate::telemetry::Sink;
use crate::telemetry::event::Event;

/// Maximum number of steps between synchronisations.
const STEPS: u64 = 10;
/// Target number of seconds between synchronisations.
const SECONDS: f64 = 10.0;

/// The next synchronisation, after the same step on every rank, and signs of life in between.
#[derive(Debug)]
pub struct SyncSchedule {
    next: u64,
    last_sign: Instant,
}

impl SyncSchedule {
    /// The ranks synchronise after the first step from now on.
    pub fn new() -> Self {
        Self { next: 0, last_sign: Instant::now() }
    }

    /// Whether they synchronise after `step`.
    pub fn due(&self, step: u64) -> bool {
        step >= self.next
    }

    /// They synchronised after `step`. `seconds` per step must be the mean over the ranks, so that all agree on the next
    /// time.
    pub fn synchronised(&mut self, step: u64, seconds: f64) {
        self.next = step + interval(seconds);
    }

    /// Sends a sign of life now and then, however slow the steps are.
    pub fn alive(&mut self, sink: &Sink) {
        if self.last_sign.elapsed().as_secs_f64() > SECONDS {
            sink.send(&Event::Alive);
            self.last_sign = Instant::now();
        }
    }
}

impl Default for SyncSchedule {
    fn default() -> Self {
        Self::new()
    }
}

/// Steps until the next synchronisation, given the seconds of a step.
fn interval(step_seconds: f64) -> u64 {
    // `as` turns NaN into 0.
    ((SECONDS / step_seconds.max(1e-9)) as u64).clamp(1, STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_slow_steps_is_shorter() {
        assert_eq!([0.0, 0.1, 1.0, 3.0, 60.0, f64::NAN].map(interval), [10, 10, 10, 3, 1, 10]);
    }

    #[test]
    fn schedule_is_due_after_the_first_step_and_then_by_the_interval() {
        let mut schedule = SyncSchedule::new();
        assert!(schedule.due(1));
        schedule.synchronised(1, 3.0);
        assert!(!schedule.due(3) && schedule.due(4));
    }
}
