//! A running cluster, and what tests do with it.

use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::addresses::HOST;
use crate::error::{Error, Result};
use crate::handle::{Cluster, Local};
use crate::kubectl::Kubectl;
use crate::node::Node;
use crate::sandbox::Sandbox;
use crate::state::State;
use crate::tools::Tools;
use crate::up::down;
use crate::worker::Worker;

impl Cluster {
    /// Returns the cluster that is up on this machine, if any. It stays up when the value is dropped.
    ///
    /// # Errors
    /// If its state can't be read.
    pub fn running() -> Result<Option<Self>> {
        let Some(folder) = Sandbox::all().first().map(|sandbox| sandbox.state().to_path_buf()) else {
            return Ok(None);
        };
        let Some(state) = State::load(&folder)? else { return Ok(None) };
        let tools = Tools::at(&state.tools);
        let kubeconfig = folder.join("kubeconfig");
        let kubectl = Kubectl::own(&tools.kube(), &kubeconfig);
        Ok(Some(Self { kubectl, kubeconfig, local: Some(Local { folder, tools, state, keep: true }) }))
    }

    /// Returns an external cluster, accessed by the `kubectl` on PATH. Its nodes can't be stopped, and images can't be imported.
    pub fn existing(kubeconfig: &Path) -> Self {
        Self { kubectl: Kubectl::users(kubeconfig), kubeconfig: kubeconfig.to_path_buf(), local: None }
    }

    /// Returns the running process with which the cluster goes down, if there is one: that of a test.
    pub fn owner(&self) -> Option<i32> {
        let state = self.local.as_ref().map(|local| &local.state).filter(|state| !state.abandoned())?;
        state.owner.map(|(pid, _)| pid)
    }

    /// Takes it down and checks that only the logs are left.
    ///
    /// # Errors
    /// If something can't be removed.
    pub fn down(mut self) -> Result<()> {
        self.end()
    }

    /// Returns the path of the kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the address of this machine as seen from pods and nodes; a test's own servers listen there.
    ///
    /// # Errors
    /// If the cluster is external.
    pub fn host_address(&self) -> Result<Ipv4Addr> {
        self.local("host_address").map(|_| HOST)
    }

    /// Returns the folder with one log per component.
    ///
    /// # Errors
    /// If the cluster is external.
    pub fn logs(&self) -> Result<PathBuf> {
        self.local("logs").map(|local| local.folder.join("logs"))
    }

    /// Returns the folder of all its files.
    ///
    /// # Errors
    /// If the cluster is external.
    pub fn state(&self) -> Result<&Path> {
        self.local("state").map(|local| local.folder.as_path())
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it fails; the error contains its output.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(arguments)
    }

    /// Runs kubectl with `--output=json`.
    ///
    /// # Errors
    /// If it fails; the error contains its output.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.kubectl.json(arguments)
    }

    /// Applies a manifest of one or more objects, YAML or JSON.
    ///
    /// # Errors
    /// If it is refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl.apply(manifest)
    }

    /// Returns a kubectl command, for commands that keep running: `port-forward`, `logs --follow`.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubectl.command(arguments)
    }

    /// Returns a Helm command for this cluster: the built Helm, or the one on PATH for an external cluster.
    pub fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.local {
            Some(local) => Command::new(local.tools.kube()),
            None => Command::new("helm"),
        };
        command.args(self.local.is_some().then_some("helm")).args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Imports an OCI archive on every node. Layers that a node already has are not stored again.
    ///
    /// # Errors
    /// If it is not an image archive, or the cluster is external.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        let archive = std::path::absolute(archive).map_err(Error::io("find", archive))?;
        let local = self.local("import_image")?;
        // All nodes at once: half of it is waiting for the disk.
        std::thread::scope(|scope| {
            let import = |worker: Worker<'_>| worker.import(&archive);
            let started: Vec<_> = local.workers().map(|worker| scope.spawn(move || import(worker))).collect();
            let mut ended = started.into_iter().map(|thread| thread.join().unwrap_or_else(|p| resume_unwind(p)));
            ended.try_for_each(|result| result)
        })
    }

    /// Returns the number of nodes.
    ///
    /// # Errors
    /// If the cluster is external.
    pub fn nodes(&self) -> Result<usize> {
        self.local("nodes").map(|local| local.state.nodes)
    }

    /// Returns a node, to stop and start it; numbers start at 1.
    ///
    /// # Errors
    /// If there is no such node, or the cluster is external.
    pub fn node(&self, number: usize) -> Result<Node<'_>> {
        let local = self.local("node")?;
        if !(1..=local.state.nodes).contains(&number) {
            return Err(Error::NoNode { asked: number, nodes: local.state.nodes });
        }
        Ok(Node::new(self, local.worker(number), number))
    }

    /// Returns each component's name, and its process if it runs.
    ///
    /// # Errors
    /// If the cluster is external.
    pub fn components(&self) -> Result<Vec<(String, Option<i32>)>> {
        let local = self.local("status")?;
        let plane = Sandbox::new(&local.folder, crate::control_plane::NAME);
        let programs = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"];
        let mut all: Vec<_> = programs.map(|program| (program.to_owned(), plane.find(program))).into();
        for worker in local.workers() {
            let of = |program: &str| (worker.sandbox.component(program), worker.sandbox.find(program));
            all.extend(["containerd", "kubelet", "kube-proxy"].map(of));
            all.extend(local.state.network_policies.then(|| of("network-policies")));
        }
        Ok(all)
    }

    pub(crate) fn local(&self, what: &'static str) -> Result<&Local> {
        self.local.as_ref().ok_or(Error::NotOurs(what))
    }

    pub(crate) fn is_ready(&self, node: &str) -> bool {
        self.json(&["get", "node", node]).is_ok_and(|node| condition(&node, "Ready").as_deref() == Some("True"))
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        match self.local.take() {
            Some(local) => down(&local.folder),
            None => Ok(()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.local.as_ref().is_some_and(|local| local.keep) {
            return;
        }
        if let Err(error) = self.end() {
            eprintln!("taking the cluster down: {error}");
        }
    }
}

/// Returns the status of an object's condition: `True`, `False` or `Unknown`.
///
/// ```
/// let node = serde_json::json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
/// assert_eq!(simsiam_cluster::condition(&node, "Ready").as_deref(), Some("True"));
/// ```
pub fn condition(object: &Value, kind: &str) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn node_of_another_cluster_is_not_touched() {
        let cluster = Cluster::existing(Path::new("/home/me/.kube/config"));
        assert_eq!(cluster.kubeconfig(), Path::new("/home/me/.kube/config"));
        let refused = [
            cluster.node(1).map(drop),
            cluster.import_image(Path::new("x.tar")),
            cluster.host_address().map(drop),
            cluster.logs().map(drop),
        ];
        assert!(refused.iter().all(|result| matches!(result, Err(Error::NotOurs(_)))), "{refused:?}");
        cluster.down().unwrap();
    }

    #[test]
    fn condition_is_found_by_type() {
        let node = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(condition(&node, "Ready").as_deref(), Some("Unknown"));
        assert_eq!(condition(&node, "DiskPressure"), None);
        assert_eq!(condition(&json!({}), "Ready"), None);
    }
}
