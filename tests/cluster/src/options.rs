//! Options of a cluster, and the folder of its files.

use std::path::PathBuf;

use crate::error::Result;

/// Options of a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of nodes, up to 9; 0 starts only etcd and an API server, without scheduler and controllers.
    pub nodes: usize,
    /// Number of GPUs that each node advertises.
    pub gpus_per_node: usize,
    /// Whether kube-router's firewall enforces NetworkPolicies in each node.
    pub network_policies: bool,
    /// The folder of its files; `None` for [`default_state`].
    pub state: Option<PathBuf>,
    /// Leave it up when this process ends. Otherwise it goes down when the [`Cluster`](crate::Cluster) is dropped, and where even that does not
    /// happen the next [`Cluster::up`](crate::Cluster::up) clears it away.
    pub keep: bool,
    /// Print nothing on standard output.
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 2, gpus_per_node: 4, network_policies: true, state: None, keep: false, quiet: false }
    }
}

/// Returns the default folder of a cluster's files: `cluster` in the cache. Not in `/run`, because images are large.
///
/// # Errors
/// If there is no cache.
pub fn default_state() -> Result<PathBuf> {
    Ok(simsiam_cache::root()?.join("cluster"))
}
