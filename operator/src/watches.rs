//! Whether the watches work: an operator that no longer sees the cluster must not look healthy.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use crate::sync::lock;

/// Failures further apart than this belong to different disturbances; a broken watch is retried at least every 30 s.
const APART: Duration = Duration::from_secs(180);
/// A watch that has failed for this long misses changes. A shorter failure is normal, when an API server restarts.
const DOWN: Duration = Duration::from_secs(60);
/// After this time a restart of the operator, with new connections and credentials, may help.
const HOPELESS: Duration = Duration::from_secs(600);

/// All watches of this replica, by kind of object.
#[derive(Debug, Default)]
pub struct Watches {
    states: Mutex<BTreeMap<String, State>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The first and the last failure of the newest disturbance.
    failures: Option<(Instant, Instant)>,
    ended: bool,
}

impl State {
    /// For how long the watch has failed.
    fn failing(&self, now: Instant) -> Duration {
        let newest = self.failures.filter(|(_, last)| now.saturating_duration_since(*last) < APART);
        newest.map_or(Duration::ZERO, |(first, _)| now.saturating_duration_since(first))
    }
}

impl Watches {
    /// Registers a watch; it counts as ended when the returned guard is dropped, also by a panic.
    pub fn begin(&self, kind: &str) -> Watch<'_> {
        lock(&self.states).insert(kind.to_owned(), State::default());
        Watch { watches: self, kind: kind.to_owned() }
    }

    fn change(&self, kind: &str, change: impl FnOnce(&mut State)) {
        change(lock(&self.states).entry(kind.to_owned()).or_default());
    }

    /// The watches, and whether each is up.
    pub fn up(&self, now: Instant) -> Vec<(String, bool)> {
        let states = lock(&self.states);
        states.iter().map(|(kind, state)| (kind.clone(), !state.ended && state.failing(now) < DOWN)).collect()
    }

    /// What a restart of the operator may fix, for the liveness probe.
    pub fn hopeless(&self, now: Instant) -> Option<String> {
        let states = lock(&self.states);
        states.iter().find_map(|(kind, state)| match state.failing(now) {
            _ if state.ended => Some(format!("the watch of {kind}s has ended")),
            time if time >= HOPELESS => Some(format!("the watch of {kind}s has failed for {} s", time.as_secs())),
            _ => None,
        })
    }
}

/// A watch in progress.
#[derive(Debug)]
pub struct Watch<'a> {
    watches: &'a Watches,
    kind: String,
}

impl Watch<'_> {
    /// Takes note of an event, or of a failure.
    pub fn observe<K>(&self, event: &watcher::Result<watcher::Event<K>>) {
        match event {
            // Begins a listing, which may still fail.
            Ok(watcher::Event::Init) => {}
            Ok(_) => self.succeeded(),
            Err(_) => self.failed(Instant::now()),
        }
    }

    /// An event was received.
    pub fn succeeded(&self) {
        self.watches.change(&self.kind, |state| state.failures = None);
    }

    /// The watch failed; it is retried.
    pub fn failed(&self, now: Instant) {
        self.watches.change(&self.kind, |state| {
            let newest = state.failures.filter(|(_, last)| now.saturating_duration_since(*last) < APART);
            state.failures = Some((newest.map_or(now, |(first, _)| first), now));
        });
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.watches.change(&self.kind, |state| state.ended = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(watches: &Watches, now: Instant) -> bool {
        watches.up(now).iter().all(|(_, up)| *up)
    }

    #[test]
    fn watch_that_fails_for_long_is_down_and_then_hopeless() {
        let watches = Watches::default();
        let (pods, start) = (watches.begin("Pod"), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in (0..=600).step_by(30) {
            assert_eq!(up(&watches, at(seconds)), seconds < 90, "after {seconds} s");
            assert_eq!(watches.hopeless(at(seconds)), None, "after {seconds} s");
            pods.failed(at(seconds + 30));
        }
        assert_eq!(watches.hopeless(at(630)).unwrap(), "the watch of Pods has failed for 600 s");
        pods.succeeded();
        assert!(up(&watches, at(631)) && watches.hopeless(at(631)).is_none());
    }

    /// After a short disturbance nothing may happen for hours that would bring an event.
    #[test]
    fn quiet_watch_after_a_failure_is_up() {
        let watches = Watches::default();
        let (pods, start) = (watches.begin("Pod"), Instant::now());
        pods.failed(start);
        assert!(up(&watches, start + Duration::from_secs(3600)));
        pods.failed(start + Duration::from_secs(3600));
        assert!(up(&watches, start + Duration::from_secs(3601)));
        assert_eq!(watches.hopeless(start + Duration::from_secs(3601)), None);
    }

    #[test]
    fn watch_that_ended_is_hopeless_at_once() {
        let watches = Watches::default();
        let jobs = watches.begin("Job");
        let _pods = watches.begin("Pod");
        drop(jobs);
        assert_eq!(watches.up(Instant::now()), [("Job".to_owned(), false), ("Pod".to_owned(), true)]);
        assert_eq!(watches.hopeless(Instant::now()).unwrap(), "the watch of Jobs has ended");
    }
}
