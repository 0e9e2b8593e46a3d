//! The operator's settings, as far as they show in objects.

use std::collections::BTreeMap;

/// The operator's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The image of runs that do not set `spec.image`.
    pub trainer_image: String,
    /// The operator's namespace, from which it polls pods for their progress.
    pub namespace: String,
    /// Labels of the operator's pods.
    pub operator_labels: BTreeMap<String, String>,
    /// Leave user and group IDs to the cluster, unless a run sets them.
    pub omit_user_ids: bool,
    /// The pods that may scrape the trainers' metrics; none if `None`.
    pub prometheus: Option<Peer>,
}

/// A set of pods in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Their namespace; any if `None`.
    pub namespace: Option<String>,
    /// Their labels; any if empty.
    pub labels: BTreeMap<String, String>,
}
