//! The command line of an agent.

/// Starts the agent of one node: `simsiam worker …`. The names are torchrun's where it has them.
///
/// The trainer's tests parse what [`to_args`](Self::to_args) gives, so that a renamed option cannot go unnoticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerCommand {
    /// Path of the run file.
    pub file: String,
    /// The stage to run.
    pub stage: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Number of nodes.
    pub nnodes: u32,
    /// This node's number, from 0; may be a reference such as `$(JOB_COMPLETION_INDEX)` that the starter expands.
    pub node_rank: String,
    /// Ranks on this node.
    pub nproc_per_node: u32,
    /// Address of node 0.
    pub master_addr: String,
    /// Port of node 0's rendezvous store.
    pub master_port: u16,
    /// Longest silence of the ranks in a training step, in seconds.
    pub stall_timeout: u64,
    /// Longest wait for the other nodes, in seconds.
    pub rendezvous_timeout: u64,
    /// Time for a checkpoint after SIGTERM, in seconds.
    pub stop_grace: u64,
    /// Intra-op threads of each rank; by default the node's cores divided by its ranks.
    pub threads_per_rank: Option<u32>,
    /// Persistent volume claims and the paths they are mounted at.
    pub mounts: Vec<(String, String)>,
}

impl WorkerCommand {
    /// The arguments after the program's name.
    pub fn to_args(&self) -> Vec<String> {
        let mut arguments = vec!["worker".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("file", self.file.clone());
        option("stage", self.stage.clone());
        option("attempt", self.attempt.to_string());
        option("nnodes", self.nnodes.to_string());
        option("node-rank", self.node_rank.clone());
        option("nproc-per-node", self.nproc_per_node.to_string());
        option("master-addr", self.master_addr.clone());
        option("master-port", self.master_port.to_string());
        option("stall-timeout", self.stall_timeout.to_string());
        option("rendezvous-timeout", self.rendezvous_timeout.to_string());
        option("stop-grace", self.stop_grace.to_string());
        if let Some(threads) = self.threads_per_rank {
            option("threads-per-rank", threads.to_string());
        }
        for (claim, path) in &self.mounts {
            option("mount", format!("{claim}={path}"));
        }
        arguments
    }
}
