//! Whose turn it is: runs are reconciled in the order in which they were woken.
//!
//! kube's own queue takes any of those that are due. With more of them than the API server can serve, some would never be
//! taken, while others come again and again. So it gets only as many as it can begin at once; the others wait here,
//! each once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::observe::Key;

/// Events that come together are taken together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// The runs that wait, and how many are under way.
#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// At most so many are under way.
    most: usize,
    /// Those that wait, and from when on they may be taken.
    waiting: VecDeque<(Key, Instant)>,
    /// The same, for finding one.
    known: HashSet<Key>,
    /// Those that were taken and have not begun.
    taken: HashSet<Key>,
    running: usize,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Of(Key),
    /// Nobody's, before this time.
    NotBefore(Instant),
    /// Nobody's, until something changes.
    Nobodys,
}

impl State {
    fn wake(&mut self, key: Key, now: Instant) {
        // One that was taken and has not begun will see what there is now.
        if !self.taken.contains(&key) && self.known.insert(key.clone()) {
            self.waiting.push_back((key, now + DEBOUNCE));
        }
    }

    fn next(&mut self, now: Instant) -> Turn {
        match self.waiting.front() {
            Some(_) if self.taken.len() + self.running >= self.most => Turn::Nobodys,
            Some((_, at)) if *at > now => Turn::NotBefore(*at),
            _ => match self.waiting.pop_front() {
                Some((key, _)) => {
                    self.known.remove(&key);
                    self.taken.insert(key.clone());
                    Turn::Of(key)
                }
                None => Turn::Nobodys,
            },
        }
    }
}

impl Turns {
    /// With at most so many under way.
    pub fn new(most: usize) -> Self {
        let (waiting, known, taken) = (VecDeque::new(), HashSet::new(), HashSet::new());
        Self { state: Mutex::new(State { most, waiting, known, taken, running: 0 }), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here stops half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run is to be looked at.
    pub fn wake(&self, key: Key) {
        self.state().wake(key, Instant::now());
        self.changed.notify_one();
    }

    /// Waits for the next run.
    pub async fn next(&self) -> Key {
        loop {
            let turn = self.state().next(Instant::now());
            match turn {
                Turn::Of(key) => return key,
                Turn::NotBefore(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.changed.notified() => {}
                },
                Turn::Nobodys => self.changed.notified().await,
            }
        }
    }

    /// A run's reconciliation begins; it ends when what is given back is dropped.
    pub fn begin(&self, key: &Key) -> Running<'_> {
        let mut state = self.state();
        state.taken.remove(key);
        state.running += 1;
        Running { turns: self }
    }

    /// A run that was taken is gone, and never begins.
    pub fn gone(&self, key: &Key) {
        self.state().taken.remove(key);
        self.changed.notify_one();
    }
}

/// A reconciliation that is under way.
#[derive(Debug)]
pub struct Running<'a> {
    turns: &'a Turns,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.running = state.running.saturating_sub(1);
        drop(state);
        self.turns.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> Key {
        Key { namespace: "n".into(), run: format!("r{i}") }
    }

    /// What can be taken now.
    fn taken(turns: &Turns) -> Vec<Key> {
        let later = Instant::now() + DEBOUNCE;
        std::iter::from_fn(|| match turns.state().next(later) {
            Turn::Of(key) => Some(key),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn first_come_first_served_and_each_once() {
        let turns = Turns::new(2);
        for i in [0, 1, 2, 1, 0, 3] {
            turns.wake(key(i));
        }
        assert_eq!(taken(&turns), [key(0), key(1)]);
        // One that was taken is not taken twice; one that runs waits again, behind the others.
        turns.wake(key(0));
        let running = turns.begin(&key(0));
        turns.wake(key(0));
        assert_eq!(taken(&turns), [], "no more than two");
        drop(running);
        assert_eq!(taken(&turns), [key(2)]);
        drop(turns.begin(&key(1)));
        turns.gone(&key(2));
        assert_eq!(taken(&turns), [key(3), key(0)]);
    }

    #[test]
    fn events_that_come_together_are_one() {
        let turns = Turns::new(2);
        turns.wake(key(0));
        assert!(matches!(turns.state().next(Instant::now()), Turn::NotBefore(_)));
    }

    #[tokio::test]
    async fn a_turn_comes_when_another_ends() {
        let turns = std::sync::Arc::new(Turns::new(1));
        turns.wake(key(0));
        turns.wake(key(1));
        assert_eq!(turns.next().await, key(0));
        let next = tokio::spawn({
            let turns = turns.clone();
            async move { turns.next().await }
        });
        let running = turns.begin(&key(0));
        tokio::time::sleep(2 * DEBOUNCE).await;
        assert!(!next.is_finished());
        drop(running);
        assert_eq!(next.await.unwrap(), key(1));
    }
}
