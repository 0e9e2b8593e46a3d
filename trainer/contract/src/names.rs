//! Ports, paths, environment variables, labels and annotations that both sides use.

/// Port of an agent's HTTP server.
pub const METRICS_PORT: u16 = 9400;
/// Port of node 0's rendezvous store (torchrun's default).
pub const RENDEZVOUS_PORT: u16 = 29500;

/// Path of the metrics in Prometheus' text format.
pub const METRICS_PATH: &str = "/metrics";
/// Path of the [`Progress`](crate::Progress) document.
pub const PROGRESS_PATH: &str = "/progress";
/// Path that answers 200 while the agent runs.
pub const HEALTH_PATH: &str = "/healthz";
/// Where Kubernetes reads a container's [`TerminationMessage`](crate::TerminationMessage).
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// Folder of a pod in which the cache's volume is mounted.
pub const CACHE_FOLDER: &str = "/cache";

/// Environment variables that torchrun and Slurm set for a rank, and an agent for its ranks.
pub mod env {
    /// Global rank, from 0.
    pub const RANK: &str = "RANK";
    /// Number of ranks.
    pub const WORLD_SIZE: &str = "WORLD_SIZE";
    /// Rank among those of the same node, from 0.
    pub const LOCAL_RANK: &str = "LOCAL_RANK";
    /// Address of node 0.
    pub const MASTER_ADDR: &str = "MASTER_ADDR";
    /// Port of node 0's rendezvous store.
    pub const MASTER_PORT: &str = "MASTER_PORT";
    /// Number of the attempt, from 1.
    pub const ATTEMPT: &str = "SIMSIAM_ATTEMPT";
    /// GPUs that a node must have. Not an option of the command line, which a trainer older than the operator would refuse.
    pub const GPUS: &str = "SIMSIAM_GPUS";
}

/// API group of the custom resource, and prefix of its labels and annotations.
pub const GROUP: &str = "simsiam.dev";

/// Labels of the objects of a run.
pub mod label {
    /// The run that an object belongs to.
    pub const RUN: &str = "simsiam.dev/run";
    /// The stage that a Job or pod runs.
    pub const STAGE: &str = "simsiam.dev/stage";
    /// The attempt that a Job or pod belongs to.
    pub const ATTEMPT: &str = "simsiam.dev/attempt";
}
