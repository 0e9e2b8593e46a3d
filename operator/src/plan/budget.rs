//! How often a run may restart, and how long it waits before it does.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::api::{RestartPolicy, Restarts};

/// What kind of restart it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// After a crash or a lost peer.
    Counted,
    /// After a pre-emption or a lost node.
    Preempted,
    /// Not all pods could be scheduled.
    Unscheduled,
}

/// Counts a restart at a time when the newest checkpoint is at `step`. `None` if that was one too many; else how long
/// to wait. `salt` makes the waits of different runs differ.
pub fn spend(restarts: &mut Restarts, policy: &RestartPolicy, kind: Kind, step: u64, salt: &str) -> Option<Duration> {
    if step > restarts.checkpoint_step {
        restarts.checkpoint_step = step;
        (restarts.counted_since_checkpoint, restarts.uncounted_since_checkpoint) = (0, 0);
    }
    let (times, most, first, longest) = match kind {
        Kind::Counted => {
            restarts.counted += 1;
            restarts.counted_since_checkpoint += 1;
            (restarts.counted_since_checkpoint, policy.max_restarts, 5, 300)
        }
        Kind::Preempted => {
            restarts.preempted += 1;
            restarts.uncounted_since_checkpoint += 1;
            (restarts.uncounted_since_checkpoint, policy.max_preemptions, 1, 60)
        }
        Kind::Unscheduled => {
            restarts.unscheduled += 1;
            restarts.uncounted_since_checkpoint += 1;
            (restarts.uncounted_since_checkpoint, policy.max_preemptions, 15, 600)
        }
    };
    (times <= most).then(|| wait(first, longest, times, salt))
}

/// Doubles each time, up to a bound, and then up to a half more, so that two runs do not try again in step for ever.
fn wait(first: u64, longest: u64, times: u32, salt: &str) -> Duration {
    let whole = first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(longest);
    let byte = Sha256::digest(format!("{salt}/{times}")).first().copied().unwrap_or(0);
    Duration::from_millis(whole * 1000 + whole * 500 * u64::from(byte) / 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_checkpoint_gives_the_budget_back() {
        let policy = RestartPolicy { max_restarts: 2, max_preemptions: 1, ..RestartPolicy::default() };
        let mut restarts = Restarts::default();
        let counted = |restarts: &mut Restarts, step| spend(restarts, &policy, Kind::Counted, step, "a").is_some();
        assert!(counted(&mut restarts, 0) && counted(&mut restarts, 0));
        assert!(counted(&mut restarts, 10) && counted(&mut restarts, 10));
        assert!(!counted(&mut restarts, 10), "{restarts:?}");
        assert_eq!((restarts.counted, restarts.checkpoint_step), (5, 10));
        let mut restarts = Restarts::default();
        assert!(spend(&mut restarts, &policy, Kind::Preempted, 0, "a").is_some());
        assert!(spend(&mut restarts, &policy, Kind::Unscheduled, 0, "a").is_none(), "bounded together");
    }

    #[test]
    fn waits_grow_to_a_bound_and_differ_between_runs() {
        let policy = RestartPolicy::default();
        let waits = |salt: &str| -> Vec<u64> {
            let mut restarts = Restarts::default();
            (0..10).filter_map(|_| spend(&mut restarts, &policy, Kind::Counted, 0, salt)).map(|d| d.as_secs()).collect()
        };
        let (a, b) = (waits("a"), waits("b"));
        assert!(a[0] >= 5 && a[0] <= 8 && a[9] >= 300 && a[9] <= 450, "{a:?}");
        assert_ne!(a, b);
    }
}
