//! Errors of the cluster, with remedies.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of the test cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, created or removed.
    #[error(transparent)]
    Io(#[from] simsiam_cache::IoError),
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// A component of the cluster ended or did not become ready.
    #[error("{component} {problem}. Its log, {}, ends with:\n{last}", log.display())]
    Component {
        /// `etcd`, `kube-apiserver`, `node-1-kubelet` …
        component: String,
        /// What is wrong with it.
        problem: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        last: String,
    },
    /// A condition was not met in time.
    #[error("timed out after {} s waiting for {what}{}", after.as_secs(), if said.is_empty() { String::new() } else { format!(": {said}") })]
    Late {
        /// The condition.
        what: String,
        /// The timeout.
        after: Duration,
        /// The last observation.
        said: String,
    },
    /// Another cluster of this machine is up.
    #[error(
        "a cluster is already up, its state is in {path}: use it (export KUBECONFIG={path}/kubeconfig) or take it down \
         (cargo xtask cluster down --state {path})",
        path = state.display()
    )]
    Running {
        /// Its folder.
        state: PathBuf,
    },
    /// This machine or account cannot run a cluster.
    #[error("a test cluster cannot run here: {0}")]
    Impossible(String),
    /// No Go is new enough for a module.
    #[error(
        "Go {needed} or newer is needed to build {}; {found}. Debian 12's Go is too old: install one from Debian's \
         backports or from go.dev, and put it on PATH",
        sources.display()
    )]
    Go {
        /// The version in the module's `go.mod`.
        needed: String,
        /// The module's folder.
        sources: PathBuf,
        /// The versions that were found, for the message.
        found: String,
    },
    /// The Go programs could not be built.
    #[error("the cluster's programs could not be built ({status}). The end of {}:\n{last}", log.display())]
    Tools {
        /// How `go build` ended.
        status: std::process::ExitStatus,
        /// Its output.
        log: PathBuf,
        /// The last lines of it.
        last: String,
    },
    /// The operation is not available for an external cluster.
    #[error("{0} works only with a cluster that was started here; unset KUBECONFIG to start one")]
    NotOurs(&'static str),
    /// There is no such node.
    #[error("there is no node {asked}: the nodes are 1 to {nodes}")]
    NoNode {
        /// The requested number.
        asked: usize,
        /// How many there are.
        nodes: usize,
    },
    /// The file in the state folder can't be parsed.
    #[error("{} is not the state of a cluster: {source}. Remove that folder if it contains nothing of yours", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Something is left after taking the cluster down.
    #[error("left behind: {}", .0.join(", "))]
    Left(Vec<String>),
    /// The cache can't be used.
    #[error(transparent)]
    Cache(#[from] simsiam_cache::Error),
}

impl Error {
    /// Returns a constructor of [`Error::Io`] for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let failed = simsiam_cache::IoError::at(action, path);
        move |source| Self::Io(failed(source))
    }
}

/// Result of a cluster operation.
pub type Result<T> = std::result::Result<T, Error>;
