//! Facts by run, kept up to date by a watch.

use std::collections::HashMap;
use std::sync::RwLock;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use super::facts::Facts;
use crate::api::RunKey;
use crate::names;
use crate::sync::{read, write};

type Objects<F> = HashMap<RunKey, HashMap<String, F>>;

/// All objects of one kind.
#[derive(Debug)]
pub struct Index<F> {
    state: RwLock<State<F>>,
}

#[derive(Debug)]
struct State<F> {
    current: Objects<F>,
    /// The objects of a listing that is still incomplete; it replaces `current` at its end.
    listing: Option<Objects<F>>,
    complete: bool,
}

impl<F> Default for Index<F> {
    fn default() -> Self {
        Self { state: RwLock::new(State { current: HashMap::new(), listing: None, complete: false }) }
    }
}

impl<F: Facts> Index<F> {
    /// Applies an event of the watch. Returns the runs that it concerns.
    pub fn apply(&self, event: Event<F::Object>) -> Vec<RunKey>
    where
        F::Object: Resource,
    {
        match event {
            Event::Init => {
                write(&self.state).listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some((key, facts)) = read_object::<F>(&object) {
                    let mut state = write(&self.state);
                    let objects = state.listing.get_or_insert_default();
                    objects.entry(key).or_default().insert(object.name_any(), facts);
                }
                Vec::new()
            }
            Event::InitDone => self.complete_listing(),
            Event::Apply(object) => {
                let Some((key, facts)) = read_object::<F>(&object) else { return Vec::new() };
                write(&self.state).current.entry(key.clone()).or_default().insert(object.name_any(), facts);
                vec![key]
            }
            Event::Delete(object) => {
                let Some((key, facts)) = read_object::<F>(&object) else { return Vec::new() };
                let gone = facts.gone();
                let mut state = write(&self.state);
                if let Some(objects) = state.current.get_mut(&key) {
                    match gone {
                        Some(gone) => objects.insert(object.name_any(), gone),
                        None => objects.remove(&object.name_any()),
                    };
                    if objects.is_empty() {
                        state.current.remove(&key);
                    }
                }
                vec![key]
            }
        }
    }

    /// Replaces everything by the listing. An object that vanished while the watch was down counts as deleted.
    fn complete_listing(&self) -> Vec<RunKey> {
        let mut state = write(&self.state);
        // The new state is complete before it becomes visible, so that a panic in between loses nothing.
        let mut next = state.listing.clone().unwrap_or_default();
        for (key, objects) in &state.current {
            for (name, facts) in objects {
                if !next.get(key).is_some_and(|listed| listed.contains_key(name))
                    && let Some(gone) = facts.gone()
                {
                    next.entry(key.clone()).or_default().insert(name.clone(), gone);
                }
            }
        }
        let mut keys: Vec<_> = next.keys().chain(state.current.keys()).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        state.current = next;
        state.listing = None;
        state.complete = true;
        keys
    }

    /// Whether the first listing is complete.
    pub fn is_complete(&self) -> bool {
        read(&self.state).complete
    }

    /// The objects of a run.
    pub fn of(&self, key: &RunKey) -> Vec<F> {
        let state = read(&self.state);
        state.current.get(key).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// Removes the objects of a run for which `remove` holds.
    pub fn remove(&self, key: &RunKey, remove: impl Fn(&F) -> bool) {
        let mut state = write(&self.state);
        if let Some(objects) = state.current.get_mut(key) {
            objects.retain(|_, facts| !remove(facts));
            if objects.is_empty() {
                state.current.remove(key);
            }
        }
    }
}

fn read_object<F: Facts>(object: &F::Object) -> Option<(RunKey, F)>
where
    F::Object: Resource,
{
    let name = object.meta().labels.as_ref()?.get(names::RUN)?.clone();
    Some((RunKey { namespace: object.meta().namespace.clone()?, name }, F::of(object)?))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::super::facts::PodFacts;
    use super::*;

    fn key() -> RunKey {
        RunKey { namespace: "n".into(), name: "r".into() }
    }

    fn pod(name: &str) -> Pod {
        let labels = json!({"simsiam.dev/run": "r", "batch.kubernetes.io/job-name": "r-pretrain-1",
            "batch.kubernetes.io/job-completion-index": "0"});
        let metadata = json!({"name": name, "uid": name, "namespace": "n", "labels": labels});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn names(index: &Index<PodFacts>) -> Vec<(String, bool)> {
        let mut names: Vec<_> = index.of(&key()).into_iter().map(|pod| (pod.name, pod.is_gone)).collect();
        names.sort();
        names
    }

    #[test]
    fn listing_replaces_everything_and_keeps_vanished_pods_as_gone() {
        let index = Index::<PodFacts>::default();
        index.apply(Event::Init);
        index.apply(Event::InitApply(pod("a")));
        assert!(!index.is_complete() && names(&index).is_empty());
        assert_eq!(index.apply(Event::InitDone).len(), 1);
        index.apply(Event::Apply(pod("b")));
        // The watch broke, and `a` was deleted before it was restored.
        index.apply(Event::Init);
        index.apply(Event::InitApply(pod("b")));
        assert_eq!(names(&index), [("a".into(), false), ("b".into(), false)]);
        index.apply(Event::InitDone);
        assert_eq!(names(&index), [("a".into(), true), ("b".into(), false)]);
        index.apply(Event::Delete(pod("b")));
        assert_eq!(names(&index), [("a".into(), true), ("b".into(), true)]);
        index.remove(&key(), |pod| pod.is_gone);
        assert!(names(&index).is_empty());
    }

    #[test]
    fn object_without_a_run_is_skipped() {
        let index = Index::<PodFacts>::default();
        let stranger: Pod = serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "n"}})).unwrap();
        assert!(index.apply(Event::Apply(stranger)).is_empty());
    }

    /// Objects hidden by a panic elsewhere would restart a run whose gang still trains.
    #[test]
    fn index_with_poisoned_lock_still_shows_its_objects() {
        let index = Index::<PodFacts>::default();
        index.apply(Event::Init);
        index.apply(Event::InitApply(pod("a")));
        index.apply(Event::InitDone);
        let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = index.state.write();
            panic!("a bug while the lock is held");
        }));
        assert!(poisoned.is_err() && index.state.is_poisoned());
        assert!(index.is_complete());
        assert_eq!(names(&index), [("a".into(), false)]);
        assert_eq!(index.apply(Event::Apply(pod("b"))).len(), 1);
        assert_eq!(names(&index), [("a".into(), false), ("b".into(), false)]);
    }
}
