//! Facts by run, kept by a watch.

use std::collections::HashMap;
use std::sync::RwLock;

use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use super::facts::Facts;
use crate::api::SimSiamRun;
use crate::names;

/// A run's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The run's name.
    pub run: String,
}

impl Key {
    /// Of a run.
    pub fn of(run: &SimSiamRun) -> Self {
        Self { namespace: run.namespace().unwrap_or_default(), run: run.name_any() }
    }

    /// As the queue names it.
    pub fn reference(&self) -> ObjectRef<SimSiamRun> {
        ObjectRef::new(&self.run).within(&self.namespace)
    }
}

type Shelf<F> = HashMap<Key, HashMap<String, F>>;

/// All objects of one kind.
#[derive(Debug)]
pub struct Index<F> {
    shelves: RwLock<State<F>>,
}

#[derive(Debug)]
struct State<F> {
    now: Shelf<F>,
    /// What a listing has brought so far; it replaces `now` when it is whole.
    coming: Option<Shelf<F>>,
    whole: bool,
}

impl<F> Default for Index<F> {
    fn default() -> Self {
        Self { shelves: RwLock::new(State { now: HashMap::new(), coming: None, whole: false }) }
    }
}

impl<F: Facts> Index<F> {
    /// Takes in what the watch says; the runs it concerns.
    pub fn take(&self, event: Event<F::Object>) -> Vec<Key>
    where
        F::Object: Resource,
    {
        let Ok(mut state) = self.shelves.write() else { return Vec::new() };
        match event {
            Event::Init => {
                state.coming = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(key) = key(&object) {
                    let shelf = state.coming.get_or_insert_default();
                    shelf.entry(key).or_default().insert(object.name_any(), F::of(&object));
                }
                Vec::new()
            }
            Event::InitDone => {
                let coming = state.coming.take().unwrap_or_default();
                let before = std::mem::replace(&mut state.now, coming);
                state.whole = true;
                // What went unseen while the watch was down is gone like what went before its eyes.
                for (key, objects) in &before {
                    for (name, facts) in objects {
                        if !state.now.get(key).is_some_and(|shelf| shelf.contains_key(name))
                            && let Some(gone) = facts.gone()
                        {
                            state.now.entry(key.clone()).or_default().insert(name.clone(), gone);
                        }
                    }
                }
                let mut keys: Vec<_> = state.now.keys().chain(before.keys()).cloned().collect();
                keys.sort_unstable();
                keys.dedup();
                keys
            }
            Event::Apply(object) => {
                let Some(key) = key(&object) else { return Vec::new() };
                state.now.entry(key.clone()).or_default().insert(object.name_any(), F::of(&object));
                vec![key]
            }
            Event::Delete(object) => {
                let Some(key) = key(&object) else { return Vec::new() };
                if let Some(shelf) = state.now.get_mut(&key) {
                    match F::of(&object).gone() {
                        Some(gone) => shelf.insert(object.name_any(), gone),
                        None => shelf.remove(&object.name_any()),
                    };
                    if shelf.is_empty() {
                        state.now.remove(&key);
                    }
                }
                vec![key]
            }
        }
    }

    /// Has the first listing come whole?
    pub fn is_whole(&self) -> bool {
        self.shelves.read().is_ok_and(|state| state.whole)
    }

    /// The objects of a run.
    pub fn of(&self, key: &Key) -> Vec<F> {
        let Ok(state) = self.shelves.read() else { return Vec::new() };
        state.now.get(key).map(|shelf| shelf.values().cloned().collect()).unwrap_or_default()
    }

    /// Forgets those of a run for which `forget` holds.
    pub fn forget(&self, key: &Key, forget: impl Fn(&F) -> bool) {
        let Ok(mut state) = self.shelves.write() else { return };
        if let Some(shelf) = state.now.get_mut(key) {
            shelf.retain(|_, facts| !forget(facts));
            if shelf.is_empty() {
                state.now.remove(key);
            }
        }
    }
}

fn key(object: &impl Resource) -> Option<Key> {
    let run = object.meta().labels.as_ref()?.get(names::RUN)?.clone();
    Some(Key { namespace: object.meta().namespace.clone()?, run })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::super::facts::PodFacts;
    use super::*;

    fn pod(name: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "n", "labels": {"simsiam.dev/run": "r"}}}),
        )
        .unwrap()
    }

    fn names(index: &Index<PodFacts>) -> Vec<(String, bool)> {
        let key = Key { namespace: "n".into(), run: "r".into() };
        let mut names: Vec<_> = index.of(&key).into_iter().map(|pod| (pod.name, pod.is_gone)).collect();
        names.sort();
        names
    }

    #[test]
    fn a_listing_replaces_all_at_once_and_what_is_gone_is_remembered() {
        let index = Index::<PodFacts>::default();
        index.take(Event::Init);
        index.take(Event::InitApply(pod("a")));
        assert!(!index.is_whole() && names(&index).is_empty());
        assert_eq!(index.take(Event::InitDone).len(), 1);
        index.take(Event::Apply(pod("b")));
        // The watch broke, and meanwhile `a` went.
        index.take(Event::Init);
        index.take(Event::InitApply(pod("b")));
        assert_eq!(names(&index), [("a".into(), false), ("b".into(), false)]);
        index.take(Event::InitDone);
        assert_eq!(names(&index), [("a".into(), true), ("b".into(), false)]);
        index.take(Event::Delete(pod("b")));
        assert_eq!(names(&index), [("a".into(), true), ("b".into(), true)]);
        index.forget(&Key { namespace: "n".into(), run: "r".into() }, |pod| pod.is_gone);
        assert!(names(&index).is_empty());
    }

    #[test]
    fn objects_of_nobody_are_passed_over() {
        let index = Index::<PodFacts>::default();
        let stranger: Pod = serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "n"}})).unwrap();
        assert!(index.take(Event::Apply(stranger)).is_empty());
    }
}
