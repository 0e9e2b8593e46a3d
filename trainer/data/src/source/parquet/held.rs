//! The pages that were used last, up to a number of bytes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values by key, of which the least recently used are dropped beyond a limit.
#[derive(Debug)]
pub(super) struct Held<K, V> {
    limit: usize,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    values: HashMap<K, Entry<V>>,
    /// Keys by when they were used.
    by_use: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Held<K, V> {
    /// Nothing yet, and later at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let state = State { values: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0 };
        Self { limit, state: Mutex::new(state) }
    }

    /// The value under `key`, which counts as used now.
    pub(super) fn get(&self, key: K) -> Option<V> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.uses += 1;
        let State { values, by_use, uses, .. } = &mut *state;
        let entry = values.get_mut(&key)?;
        by_use.remove(&entry.used);
        entry.used = *uses;
        by_use.insert(entry.used, key);
        Some(entry.value.clone())
    }

    /// Whether there is a value under `key`.
    pub(super) fn has(&self, key: K) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).values.contains_key(&key)
    }

    /// Keeps a value of `bytes` bytes, unless it alone is beyond the limit.
    pub(super) fn put(&self, key: K, value: V, bytes: usize) {
        if bytes > self.limit {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.uses += 1;
        let State { values, by_use, uses, bytes: total } = &mut *state;
        if let Some(old) = values.insert(key, Entry { value, bytes, used: *uses }) {
            by_use.remove(&old.used);
            *total -= old.bytes;
        }
        by_use.insert(*uses, key);
        *total += bytes;
        while *total > self.limit {
            let Some((_, oldest)) = by_use.pop_first() else { break };
            *total -= values.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_values_are_dropped_beyond_the_limit() {
        let held = Held::new(100);
        held.put(1, 'a', 40);
        held.put(2, 'b', 40);
        assert_eq!(held.get(1), Some('a'));
        held.put(3, 'c', 40);
        assert_eq!((held.get(1), held.get(2), held.get(3)), (Some('a'), None, Some('c')));
        held.put(4, 'd', 101);
        assert!(!held.has(4) && held.has(1), "too large to be kept, and drops nothing");
        held.put(1, 'e', 100);
        assert_eq!((held.get(1), held.get(3)), (Some('e'), None));
        held.put(5, 'f', 100);
        assert_eq!((held.get(1), held.get(5)), (None, Some('f')), "the replaced value is not counted twice");
    }
}
