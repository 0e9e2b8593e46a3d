//! What cluster is wanted, and where its files lie.

use std::path::PathBuf;

use crate::error::Result;

/// What cluster is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes, up to 9; with 0 there is etcd and an API server alone, without scheduler and controllers.
    pub nodes: usize,
    /// GPUs that each node claims to have.
    pub gpus_per_node: usize,
    /// Whether NetworkPolicies are obeyed, by kube-router's firewall in each node.
    pub network_policies: bool,
    /// Where its files lie; none for [`default_state`].
    pub state: Option<PathBuf>,
    /// Leave it up when this process ends. Otherwise it goes down when the [`Cluster`](crate::Cluster) is dropped, and where even that does not
    /// happen the next [`Cluster::up`](crate::Cluster::up) clears it away.
    pub keep: bool,
    /// Say nothing on standard output.
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 2, gpus_per_node: 4, network_policies: true, state: None, keep: false, quiet: false }
    }
}

/// Where a cluster's files lie: `cluster` in the cache. They are many when images are, so not in `/run`.
///
/// # Errors
/// If there is no cache.
pub fn default_state() -> Result<PathBuf> {
    Ok(simsiam_cache::root()?.join("cluster"))
}
