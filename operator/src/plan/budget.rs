//! How often a run may restart, and how long it waits before each restart.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::api::{RestartPolicy, Restarts};

/// Why an attempt is restarted, which decides the limit and the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartKind {
    /// After a crash or a lost peer.
    Counted,
    /// After a pre-emption or a lost node.
    Preempted,
    /// Not all pods could be scheduled.
    Unscheduled,
}

/// Counts a restart while the newest checkpoint is at `step`. Returns how long to wait, or `None` if the limit is
/// exceeded. `salt` makes the waits of different runs differ.
pub fn count_restart(
    restarts: &mut Restarts,
    policy: &RestartPolicy,
    kind: RestartKind,
    step: u64,
    salt: &str,
) -> Option<Duration> {
    if step > restarts.checkpoint_step {
        restarts.checkpoint_step = step;
        restarts.reset_since_checkpoint();
    }
    let (times, limit, first, longest) = match kind {
        RestartKind::Counted => {
            restarts.counted += 1;
            restarts.counted_since_checkpoint += 1;
            (restarts.counted_since_checkpoint, Some(policy.max_restarts), 5, 300)
        }
        RestartKind::Preempted => {
            restarts.preempted += 1;
            restarts.uncounted_since_checkpoint += 1;
            (restarts.uncounted_since_checkpoint, Some(policy.max_preemptions), 1, 60)
        }
        RestartKind::Unscheduled => {
            restarts.unscheduled += 1;
            restarts.unscheduled_since_checkpoint += 1;
            (restarts.unscheduled_since_checkpoint, policy.max_unscheduled, 15, 600)
        }
    };
    limit.is_none_or(|limit| times <= limit).then(|| backoff(first, longest, times, salt))
}

/// Doubles with each restart up to a bound, plus up to 50 % of jitter, so that two runs do not retry in lockstep.
fn backoff(first: u64, longest: u64, times: u32, salt: &str) -> Duration {
    let seconds = first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(longest);
    let byte = Sha256::digest(format!("{salt}/{times}")).first().copied().unwrap_or(0);
    Duration::from_millis(seconds * 1000 + seconds * 500 * u64::from(byte) / 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_checkpoint_resets_the_budget() {
        let policy = RestartPolicy { max_restarts: 2, max_preemptions: 1, ..RestartPolicy::default() };
        let mut restarts = Restarts::default();
        let counted =
            |restarts: &mut Restarts, step| count_restart(restarts, &policy, RestartKind::Counted, step, "a").is_some();
        assert!(counted(&mut restarts, 0) && counted(&mut restarts, 0));
        assert!(counted(&mut restarts, 10) && counted(&mut restarts, 10));
        assert!(!counted(&mut restarts, 10), "{restarts:?}");
        assert_eq!((restarts.counted, restarts.checkpoint_step), (5, 10));
    }

    #[test]
    fn unscheduled_gangs_have_their_own_budget() {
        let mut policy = RestartPolicy { max_preemptions: 1, ..RestartPolicy::default() };
        let mut restarts = Restarts::default();
        assert!(count_restart(&mut restarts, &policy, RestartKind::Unscheduled, 0, "a").is_some());
        assert!(count_restart(&mut restarts, &policy, RestartKind::Unscheduled, 0, "a").is_some());
        assert!(count_restart(&mut restarts, &policy, RestartKind::Preempted, 0, "a").is_some());
        policy.max_unscheduled = Some(2);
        assert!(count_restart(&mut restarts, &policy, RestartKind::Unscheduled, 0, "a").is_none());
    }

    #[test]
    fn backoff_grows_to_a_bound_and_differs_between_runs() {
        let policy = RestartPolicy::default();
        let waits = |salt: &str| -> Vec<u64> {
            let mut restarts = Restarts::default();
            let wait = |_| count_restart(&mut restarts, &policy, RestartKind::Counted, 0, salt);
            (0..10).filter_map(wait).map(|wait| wait.as_secs()).collect()
        };
        let (a, b) = (waits("a"), waits("b"));
        assert!(a[0] >= 5 && a[0] <= 8 && a[9] >= 300 && a[9] <= 450, "{a:?}");
        assert_ne!(a, b);
    }
}
