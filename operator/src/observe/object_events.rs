//! Events about objects that have waited for a while: they say why, in the words of the scheduler, the kubelet or the Job
//! controller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;

use crate::api::RunKey;
use crate::sync::lock;

/// How long a pod may take to be created or to start before its Events are looked up.
pub const EVENTS_DELAY: Duration = Duration::from_secs(15);
/// How often the Events of the objects of a run are looked up.
pub const EVENTS_INTERVAL: Duration = Duration::from_secs(30);
/// A look-up a little earlier than planned counts.
const TOLERANCE: Duration = Duration::from_secs(5);
/// The most objects of a run whose Events are looked up at once.
pub(super) const UNEXPLAINED: usize = 8;

/// An object that has waited for a while, and whose Events may say why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// Its uid.
    pub uid: String,
    /// When it began to wait. Earlier Events are about something else.
    pub since: Timestamp,
}

/// The newest Event about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFacts {
    /// Whether its type is Warning.
    pub warning: bool,
    /// Its reason, such as FailedMount.
    pub reason: String,
    /// Its message.
    pub message: String,
}

impl EventFacts {
    /// The newest of an object's Events since `since` that explains something; of those of one second, a warning.
    pub fn newest<'a>(events: impl IntoIterator<Item = &'a Event>, since: Option<Timestamp>) -> Option<Self> {
        let relevant = events.into_iter().filter(|event| event.reason.as_deref() != Some(SCHEDULED));
        let relevant = relevant.filter_map(|event| Some((time_of(event)?.as_second(), event)));
        let relevant = relevant.filter(|(at, _)| since.is_none_or(|since| *at >= since.as_second()));
        let is_warning = |event: &Event| event.type_.as_deref() == Some("Warning");
        let (_, event) = relevant.max_by_key(|(at, event)| (*at, is_warning(event)))?;
        Some(Self {
            warning: is_warning(event),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.note.clone().unwrap_or_default(),
        })
    }
}

/// The reason of the scheduler's Event about a pod for which it found a node.
const SCHEDULED: &str = "Scheduled";

/// When an Event last occurred. Kubelets write the fields of the older API.
fn time_of(event: &Event) -> Option<Timestamp> {
    let repeated = event.series.as_ref().map(|series| series.last_observed_time.0);
    repeated
        .or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// The Events that were last looked up, by run. A starting gang changes many times a second, and an API server searches all
/// Events of a namespace for those of an object.
#[derive(Debug, Default)]
pub struct RecentEvents(Mutex<HashMap<RunKey, Recent>>);

#[derive(Debug)]
struct Recent {
    at: Timestamp,
    found: BTreeMap<String, EventFacts>,
}

impl RecentEvents {
    /// The Events of a run that were found less than [`EVENTS_INTERVAL`] ago; `None` if it is time to look again.
    pub fn of(&self, key: &RunKey, now: Timestamp) -> Option<BTreeMap<String, EventFacts>> {
        let recent = lock(&self.0);
        let recent = recent.get(key)?;
        let age = now.duration_since(recent.at).unsigned_abs();
        (age < EVENTS_INTERVAL.saturating_sub(TOLERANCE)).then(|| recent.found.clone())
    }

    /// Remembers what a look-up found.
    pub fn set(&self, key: &RunKey, at: Timestamp, found: BTreeMap<String, EventFacts>) {
        lock(&self.0).insert(key.clone(), Recent { at, found });
    }

    /// Forgets a run.
    pub fn forget(&self, key: &RunKey) {
        lock(&self.0).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Kubelets count repetitions in the fields of the older API, others in those of the newer.
    #[test]
    fn newest_event_is_the_one_that_occurred_last() {
        let event = |reason: &str, more: Value| -> Event {
            let mut event = json!({"metadata": {"name": "e"}, "reason": reason, "note": "why", "eventTime": null,
                "regarding": {}, "type": if reason.starts_with("Failed") { "Warning" } else { "Normal" }});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(event).unwrap()
        };
        let at = |time: &str| format!("2026-01-01T00:{time}Z");
        let scheduling = event("FailedScheduling", json!({"eventTime": at("00:10.000000")}));
        let scheduled = event("Scheduled", json!({"eventTime": at("00:20.000000")}));
        let mount = event(
            "FailedMount",
            json!({"deprecatedFirstTimestamp": at("00:20"), "deprecatedLastTimestamp": at("02:00")}),
        );
        let series =
            json!({"eventTime": at("00:30.000000"), "series": {"count": 3, "lastObservedTime": at("01:00.000000")}});
        let attach = event("FailedAttachVolume", series);
        let pulling = event("Pulling", json!({"deprecatedLastTimestamp": at("03:00")}));
        let since: Option<Timestamp> = Some(at("00:20").parse().unwrap());
        let newest = |events: &[&Event]| EventFacts::newest(events.iter().copied(), since).map(|event| event.reason);
        assert_eq!(newest(&[&scheduling]), None, "it is scheduled since");
        assert_eq!(newest(&[&scheduling, &scheduled]), None, "which explains nothing");
        assert_eq!(newest(&[&mount, &attach, &scheduled]).as_deref(), Some("FailedMount"));
        assert_eq!(newest(&[&mount, &pulling, &attach]).as_deref(), Some("Pulling"), "the fault is over");
        let same = event("FailedCreatePodSandBox", json!({"deprecatedLastTimestamp": at("03:00")}));
        assert_eq!(newest(&[&same, &pulling]).as_deref(), Some("FailedCreatePodSandBox"));
    }

    #[test]
    fn events_of_a_run_are_looked_up_at_intervals() {
        let recent = RecentEvents::default();
        let key = RunKey { namespace: "a".into(), name: "b".into() };
        let other = RunKey { namespace: "a".into(), name: "c".into() };
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let event = EventFacts { warning: true, reason: "FailedMount".into(), message: "why".into() };
        let found = BTreeMap::from([("uid".to_owned(), event)]);
        assert_eq!(recent.of(&key, at(100)), None, "never looked up");
        recent.set(&key, at(100), found.clone());
        assert_eq!(recent.of(&key, at(101)), Some(found.clone()));
        assert_eq!(recent.of(&key, at(124)), Some(found));
        assert_eq!(recent.of(&key, at(125)), None, "time to look again");
        assert_eq!(recent.of(&other, at(101)), None);
        recent.forget(&key);
        assert_eq!(recent.of(&key, at(101)), None);
    }
}
