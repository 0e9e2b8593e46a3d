//! What a [`Cluster`] is made of, for the files that do something with it.

use std::path::PathBuf;
use std::time::Duration;

use crate::kubectl::Kubectl;
use crate::state::State;
use crate::tools::Tools;
use crate::worker::Worker;

/// Timeout for a node to become ready.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(120);

/// GPUs are an extended resource by this name, as NVIDIA's device plugin has it.
pub const GPU: &str = "nvidia.com/gpu";

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) kubectl: Kubectl,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) local: Option<Local>,
}

/// The state of a cluster that this crate started.
#[derive(Debug)]
pub(crate) struct Local {
    pub folder: PathBuf,
    pub tools: Tools,
    pub state: State,
    pub keep: bool,
}

impl Local {
    pub(crate) fn worker(&self, number: usize) -> Worker<'_> {
        Worker::new(&self.folder, &self.tools, number, self.state.nodes)
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        (1..=self.state.nodes).map(|number| self.worker(number))
    }
}
