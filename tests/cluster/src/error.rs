//! What can go wrong with the cluster, with what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of the cluster for tests.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, made or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `make` …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote on standard error.
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
    /// Something did not become so in time.
    #[error("{what} is not so after {} s{}", after.as_secs(), if said.is_empty() { String::new() } else { format!(": {said}") })]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// What was seen last.
        said: String,
    },
    /// Another cluster of this machine is up.
    #[error(
        "a cluster is up already, its state is in {path}: use it (export KUBECONFIG={path}/kubeconfig) or end it \
         (cargo xtask cluster down --state {path})",
        path = state.display()
    )]
    Running {
        /// Its folder.
        state: PathBuf,
    },
    /// This machine or account cannot have such a cluster.
    #[error("no cluster for tests here: {0}")]
    Impossible(String),
    /// No Go is new enough for a module.
    #[error(
        "Go {needed} or newer is needed to build {}, and {found}. Debian 12's is too old: take it from Debian's \
         backports or from go.dev, and put it on PATH",
        sources.display()
    )]
    Go {
        /// The version in the module's `go.mod`.
        needed: String,
        /// The module's folder.
        sources: PathBuf,
        /// The versions that were found, in words.
        found: String,
    },
    /// The Go programs could not be built.
    #[error("the cluster's programs did not build ({status}). The end of {}:\n{last}", log.display())]
    Tools {
        /// How `go build` ended.
        status: std::process::ExitStatus,
        /// All that it wrote.
        log: PathBuf,
        /// The last lines of it.
        last: String,
    },
    /// A cluster that is not ours has no nodes that we may stop.
    #[error("{0} works only with a cluster that was started here; unset KUBECONFIG to have one")]
    NotOurs(&'static str),
    /// There is no such node.
    #[error("there is no node {asked}: the nodes are 1 to {nodes}")]
    NoNode {
        /// The number asked for.
        asked: usize,
        /// How many there are.
        nodes: usize,
    },
    /// The state folder's own file can't be understood.
    #[error("{} is not a cluster's state: {source}. Remove that folder if nothing of yours is in it", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Something is still there after taking the cluster down.
    #[error("left behind: {}", .0.join(", "))]
    Left(Vec<String>),
    /// The cache can't be used.
    #[error(transparent)]
    Cache(#[from] simsiam_cache::Error),
}

impl Error {
    /// An I/O error's constructor for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// A result of the cluster for tests.
pub type Result<T> = std::result::Result<T, Error>;
