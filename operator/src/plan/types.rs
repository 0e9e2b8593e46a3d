//! What planning reads and what it returns.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::time::whole_seconds;
use crate::api::{Condition, ConditionStatus, RunPhase, SimSiamRun, Status, ValidatedRun};
use crate::build::Settings;
use crate::observe::Observed;
use crate::progress::FirstPod;

/// What planning reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The object.
    pub object: &'a SimSiamRun,
    /// The checked run, or what is wrong with it.
    pub run: Result<&'a ValidatedRun, &'a str>,
    /// Its children.
    pub observed: &'a Observed,
    /// The operator's settings.
    pub settings: &'a Settings,
    /// The current time.
    pub now: Timestamp,
}

/// One step of a run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The status to write, before anything else.
    pub status: Status,
    /// The actions to carry out afterwards, in order.
    pub actions: Vec<Action>,
    /// The Events to publish, once the status is written.
    pub events: Vec<PlannedEvent>,
    /// When to reconcile again even if nothing happens.
    pub requeue_at: Option<Timestamp>,
    /// The pod to poll for progress.
    pub first_pod: Option<FirstPod>,
}

/// A change to the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Apply the Service of the run.
    ApplyService(Box<Service>),
    /// Apply the NetworkPolicy of the run.
    ApplyNetworkPolicy(Box<NetworkPolicy>),
    /// Create the ConfigMap with the pods' run file.
    CreateConfigMap(Box<ConfigMap>),
    /// Create an attempt's Job.
    CreateJob(Box<Job>),
    /// Delete a Job and then its pods.
    DeleteJob {
        /// Name of the Job.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete a pod that no Job owns any more.
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete a pod without waiting for its kubelet.
    ForceDeletePod {
        /// Name of the pod.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete the run itself: its `ttl` has expired.
    DeleteRun,
}

/// An Event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Whether its type is Warning.
    pub warning: bool,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// What it announces, for the counters in metrics.
    pub kind: EventKind,
}

/// What an Event announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A restart; the Event's reason is its cause.
    Restart,
    /// A run's failure; the status has its reason.
    Failure,
    /// Anything else.
    Other,
}

/// The reason of a spec that cannot be read or is refused by a rule.
pub(super) const INVALID_SPEC: &str = "InvalidSpec";

/// The condition type that says whether the operator could do what it planned.
pub(super) const RECONCILED: &str = "Reconciled";

impl Plan {
    pub(super) fn note(&mut self, reason: &str, message: String) {
        self.event(false, reason, message, EventKind::Other);
    }

    pub(super) fn warn(&mut self, reason: &str, message: String) {
        self.event(true, reason, message, EventKind::Other);
    }

    pub(super) fn failure(&mut self, reason: &str, message: String) {
        self.event(true, reason, message, EventKind::Failure);
    }

    fn event(&mut self, warning: bool, reason: &str, message: String, kind: EventKind) {
        self.events.push(PlannedEvent { warning, reason: reason.to_owned(), message, kind });
    }

    /// Sets phase, reason, message and pod.
    pub(super) fn set_phase(&mut self, phase: RunPhase, reason: &str, message: &str, pod: Option<&str>) {
        let some = |text: &str| (!text.is_empty()).then(|| truncated(text, 2048));
        self.status.phase = Some(phase);
        self.status.reason = some(reason);
        self.status.message = some(message);
        self.status.pod = pod.map(str::to_owned);
    }
}

/// Sets a condition; its transition time changes only when its status does.
pub(super) fn set_condition(
    status: &mut Status,
    input: &Input,
    kind: &str,
    value: ConditionStatus,
    reason: &str,
    message: &str,
) {
    let before = status.conditions.iter().find(|c| c.kind == kind && c.status == value);
    let condition = Condition {
        kind: kind.to_owned(),
        status: value,
        reason: truncated(reason, 128),
        message: truncated(message, 2048),
        last_transition_time: before.map_or(whole_seconds(input.now), |c| c.last_transition_time),
        observed_generation: input.object.generation(),
    };
    match status.conditions.iter_mut().find(|c| c.kind == kind) {
        Some(there) => *there = condition,
        None => status.conditions.push(condition),
    }
}

pub(super) fn truncated(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}
