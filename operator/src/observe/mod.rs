//! What is: the children of a run, from the watches' caches, in one value that planning reads.

pub mod facts;
pub mod index;

use std::collections::BTreeMap;

pub use facts::{Applied, ConfigMapFacts, Ended, Facts, JobFacts, LastWord, PodFacts, PolicyFacts, says};
pub use index::{Index, Key};

use crate::progress::Report;

/// All that planning knows of a run's children.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its Jobs.
    pub jobs: Vec<JobFacts>,
    /// Its pods, those included that are gone and whose Job was not judged yet.
    pub pods: Vec<PodFacts>,
    /// Its Services.
    pub services: Vec<Applied>,
    /// Its NetworkPolicies.
    pub policies: Vec<Applied>,
    /// Names of its ConfigMaps.
    pub config_maps: Vec<String>,
    /// Of nodes that were asked about: whether they are ready. Only asked where a pod seems lost.
    pub nodes: BTreeMap<String, bool>,
    /// What its first pod last told.
    pub progress: Option<Report>,
}

impl Observed {
    /// The Job of this name.
    pub fn job(&self, name: &str) -> Option<&JobFacts> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// The pods of a Job, by index; those that are gone last. A Job that was suspended and admitted again has started
    /// anew: what was deleted before is of no concern.
    pub fn pods_of(&self, job: &JobFacts) -> Vec<&PodFacts> {
        let is_former =
            |pod: &PodFacts| pod.deleting.zip(job.started).is_some_and(|(deleted, started)| deleted < started);
        let mut pods: Vec<_> = self.pods.iter().filter(|pod| pod.owner == job.uid && !is_former(pod)).collect();
        pods.sort_by(|a, b| (a.is_gone, a.index, &a.name).cmp(&(b.is_gone, b.index, &b.name)));
        pods
    }

    /// Nodes that must be asked about: those of pods which have not ended in a Job where something went wrong.
    pub fn doubtful_nodes(&self) -> Vec<String> {
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

/// The caches of all children.
#[derive(Debug, Default)]
pub struct Caches {
    /// Jobs.
    pub jobs: Index<JobFacts>,
    /// Pods.
    pub pods: Index<PodFacts>,
    /// Services.
    pub services: Index<Applied>,
    /// NetworkPolicies.
    pub policies: Index<PolicyFacts>,
    /// ConfigMaps.
    pub config_maps: Index<ConfigMapFacts>,
}

impl Caches {
    /// Have all first listings come whole? Before that, nothing may be taken for absent.
    pub fn are_whole(&self) -> bool {
        self.jobs.is_whole()
            && self.pods.is_whole()
            && self.services.is_whole()
            && self.policies.is_whole()
            && self.config_maps.is_whole()
    }

    /// The children of a run.
    pub fn observe(&self, key: &Key) -> Observed {
        Observed {
            pods: self.pods.of(key),
            jobs: self.jobs.of(key),
            services: self.services.of(key),
            policies: self.policies.of(key).into_iter().map(|facts| facts.0).collect(),
            config_maps: self.config_maps.of(key).into_iter().map(|facts| facts.name).collect(),
            nodes: BTreeMap::new(),
            progress: None,
        }
    }

    /// What was observed is written down: pods that were gone together with their Job then may be forgotten.
    pub fn forget(&self, key: &Key, observed: &Observed) {
        let done = |pod: &PodFacts| !observed.jobs.iter().any(|job| job.uid == pod.owner);
        let seen = |pod: &PodFacts| observed.pods.iter().any(|there| there.is_gone && there.uid == pod.uid);
        self.pods.forget(key, |pod| pod.is_gone && done(pod) && seen(pod));
    }
}
