//! How long an agent waits.

use std::time::Duration;

/// Bounds on an agent's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the other nodes, and for peers in a collective.
    pub rendezvous: Duration,
    /// For an event of any rank during training, after which the ranks count as hung; three times as long in other
    /// phases.
    pub stall: Duration,
    /// From SIGTERM to SIGKILL when the agent itself is stopped: time for a checkpoint.
    pub stop_grace: Duration,
}

impl Timeouts {
    /// From SIGTERM to SIGKILL after a rank failed.
    pub const FAILURE_GRACE: Duration = Duration::from_secs(10);
}
