//! The state of a run's children, from the watches' caches, in one value for planning.

pub mod facts;
pub mod index;
pub mod object_events;

use std::collections::BTreeMap;

pub use facts::{
    Applied, ConfigMapFacts, Disruption, Facts, JobFacts, JobFailure, MemoryLimit, OOM_KILLED, PodFacts, PolicyFacts,
    ServiceFacts, Termination, Waiting, contains,
};
pub use index::Index;
use jiff::Timestamp;
pub use object_events::{EVENTS_DELAY, EVENTS_INTERVAL, EventFacts, RecentEvents, Unexplained};

use crate::api::RunKey;
use crate::progress::LiveProgress;
use object_events::UNEXPLAINED;

/// Everything that planning knows of a run's children.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its Jobs.
    pub jobs: Vec<JobFacts>,
    /// Its pods, with those that are gone but whose attempt is not yet classified.
    pub pods: Vec<PodFacts>,
    /// Its Services.
    pub services: Vec<Applied>,
    /// Its NetworkPolicies.
    pub policies: Vec<Applied>,
    /// Its ConfigMaps.
    pub config_maps: Vec<ConfigMapFacts>,
    /// Whether nodes are ready, for the nodes of pods that seem lost.
    pub nodes: BTreeMap<String, bool>,
    /// The newest Events of the objects in [`Observed::unexplained`], by their uid.
    pub events: BTreeMap<String, EventFacts>,
    /// The newest progress of its first pod.
    pub progress: Option<LiveProgress>,
}

impl Observed {
    /// The Job of this name.
    pub fn job(&self, name: &str) -> Option<&JobFacts> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// The pods of a Job, by index; those that are gone come last. Pods that were deleted before the Job's start belong to
    /// an earlier admission by its queue and are left out.
    pub fn pods_of(&self, job: &JobFacts) -> Vec<&PodFacts> {
        let is_former =
            |pod: &PodFacts| pod.deleting.zip(job.started).is_some_and(|(deleted, started)| deleted < started);
        let is_of = |pod: &PodFacts| pod.owner.as_ref() == Some(&job.uid);
        let mut pods: Vec<_> = self.pods.iter().filter(|pod| is_of(pod) && !is_former(pod)).collect();
        pods.sort_by(|a, b| (a.is_gone, a.index, &a.name).cmp(&(b.is_gone, b.index, &b.name)));
        pods
    }

    /// Nodes whose readiness must be looked up: those of running pods of Jobs in which something went wrong.
    pub fn suspect_nodes(&self) -> Vec<String> {
        let mut nodes = Vec::new();
        for job in &self.jobs {
            let pods = self.pods_of(job);
            let wrong = job.failing.is_some()
                || job.deleting.is_some()
                || pods.iter().any(|pod| pod.deleting.is_some() || pod.disrupted.is_some() || pod.is_gone);
            if wrong {
                nodes.extend(pods.iter().filter(|p| p.ended.is_none() && !p.is_gone).filter_map(|p| p.node.clone()));
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

impl Observed {
    /// The newest Event about the object with this uid, if it is a warning.
    pub fn warning(&self, uid: &str) -> Option<&EventFacts> {
        self.events.get(uid).filter(|event| event.warning)
    }

    /// Jobs that lack pods and pods that do not start, and do not say why.
    pub fn unexplained(&self, now: Timestamp) -> Vec<Unexplained> {
        let mut found = Vec::new();
        let is_old = |since: &Timestamp| now.duration_since(*since).as_secs() >= EVENTS_DELAY.as_secs().cast_signed();
        let is_starting = |job: &&JobFacts| {
            !job.suspended && job.failing.is_none() && job.complete.is_none() && job.deleting.is_none()
        };
        for job in self.jobs.iter().filter(is_starting) {
            let pods = self.pods_of(job);
            let present = pods.iter().filter(|pod| !pod.is_gone).count();
            if let Some(since) = job.started.filter(is_old)
                && present < job.pods as usize
            {
                found.push(Unexplained { uid: job.uid.clone(), since });
            }
            for pod in pods.into_iter().filter(|pod| pod.is_starting() && pod.waiting.is_none()) {
                if let Some(since) = pod.scheduled.or(job.started).filter(is_old) {
                    found.push(Unexplained { uid: pod.uid.clone(), since });
                }
            }
        }
        found.truncate(UNEXPLAINED);
        found
    }
}

/// The caches of all children.
#[derive(Debug, Default)]
pub struct Caches {
    /// Jobs.
    pub jobs: Index<JobFacts>,
    /// Pods.
    pub pods: Index<PodFacts>,
    /// Services.
    pub services: Index<ServiceFacts>,
    /// NetworkPolicies.
    pub policies: Index<PolicyFacts>,
    /// ConfigMaps.
    pub config_maps: Index<ConfigMapFacts>,
}

impl Caches {
    /// Whether all first listings are complete. Before that, no object may be treated as missing.
    pub fn are_complete(&self) -> bool {
        self.jobs.is_complete()
            && self.pods.is_complete()
            && self.services.is_complete()
            && self.policies.is_complete()
            && self.config_maps.is_complete()
    }

    /// The children of a run.
    pub fn observe(&self, key: &RunKey) -> Observed {
        Observed {
            pods: self.pods.of(key),
            jobs: self.jobs.of(key),
            services: self.services.of(key).into_iter().map(|facts| facts.0).collect(),
            policies: self.policies.of(key).into_iter().map(|facts| facts.0).collect(),
            config_maps: self.config_maps.of(key),
            nodes: BTreeMap::new(),
            events: BTreeMap::new(),
            progress: None,
        }
    }

    /// Forgets pods that are gone together with their Job. Called once the status that was planned from `observed` is
    /// written, since what they reported is in it.
    pub fn forget(&self, key: &RunKey, observed: &Observed) {
        let has_job = |pod: &PodFacts| observed.jobs.iter().any(|job| Some(&job.uid) == pod.owner.as_ref());
        let was_seen = |pod: &PodFacts| observed.pods.iter().any(|there| there.is_gone && there.uid == pod.uid);
        self.pods.remove(key, |pod| pod.is_gone && !has_job(pod) && was_seen(pod));
    }
}
