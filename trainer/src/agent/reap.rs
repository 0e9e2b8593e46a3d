//! Reaps orphans, which the agent inherits as PID 1 of a container.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// Process ids of the ranks, which are waited for elsewhere.
pub type RankPids = Arc<Mutex<HashSet<i32>>>;

/// Waits for orphans for as long as the runtime lives, if this is PID 1.
pub fn orphans(own: RankPids) {
    if std::process::id() != 1 {
        return;
    }
    tokio::spawn(async move {
        let Ok(mut child_ended) = signal(SignalKind::child()) else { return };
        while child_ended.recv().await.is_some() {
            while let Some(orphan) = next_orphan(&own) {
                let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
            }
        }
    });
}

/// An ended child that is not a rank; it is not reaped yet.
fn next_orphan(own: &RankPids) -> Option<Pid> {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let pid = match waitid(Id::All, look) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
        _ => return None,
    };
    let is_own = own.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid.as_raw());
    (!is_own).then_some(pid)
}
