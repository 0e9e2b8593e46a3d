//! A cluster: bringing it up, using it, taking it down.

use std::fs;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::addresses::{HOST, MOST_NODES, node, node_name, pods};
use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};
use crate::kubectl::Kubectl;
use crate::node::Machine;
use crate::progress::Progress;
use crate::sandbox::Sandbox;
use crate::state::{self, State};
use crate::tools::Tools;
use crate::{leftovers, machine, network, pki};

/// GPUs are an extended resource by this name, as NVIDIA's device plugin has it.
pub const GPU: &str = "nvidia.com/gpu";
const READY_WITHIN: Duration = Duration::from_secs(120);

/// What cluster is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes, 1 to 9.
    pub nodes: usize,
    /// GPUs that each node claims to have.
    pub gpus_per_node: usize,
    /// Whether NetworkPolicies are obeyed, by kube-router's firewall in each node.
    pub network_policies: bool,
    /// Where its files lie; none for [`default_state`].
    pub state: Option<PathBuf>,
    /// Leave it up when this process ends. Otherwise it goes down when the [`Cluster`] is dropped, and where even that does not
    /// happen the next [`Cluster::up`] clears it away.
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

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    local: Option<Local>,
}

/// What we know of a cluster of our own.
#[derive(Debug)]
struct Local {
    folder: PathBuf,
    tools: Tools,
    state: State,
    keep: bool,
}

impl Cluster {
    /// Brings a cluster up: about half a minute once its programs are built.
    ///
    /// # Errors
    /// If this machine can't have one, one is up already, or a component does not come up; the error has the end of
    /// that component's log, and whatever was started is gone again.
    pub fn up(options: &Options) -> Result<Self> {
        if let Some(obstacle) = machine::obstacle() {
            return Err(Error::Impossible(obstacle));
        }
        if !(1..=MOST_NODES).contains(&options.nodes) {
            return Err(Error::Impossible(format!("{} nodes were asked for, 1 to {MOST_NODES} can be", options.nodes)));
        }
        let tools = Tools::ensure()?;
        let folder = options.state.clone().map_or_else(default_state, Ok)?;
        let folder = std::path::absolute(&folder).map_err(Error::io("find", &folder))?;
        clear_the_way(&folder)?;
        machine::check_networks()?;

        state::make(&folder)?;
        let state = State {
            nodes: options.nodes,
            gpus_per_node: options.gpus_per_node,
            network_policies: options.network_policies,
            tools: tools.folder().to_path_buf(),
            sysctls: machine::sysctls(),
            made: machine::to_be_made(),
            // Until it is up even one that is to stay: if this process is killed on the way, it is nobody's.
            owner: state::this_process(),
        };
        state.save(&folder)?;
        let kubeconfig = folder.join("kubeconfig");
        let kubectl = Kubectl::own(&tools.kube(), &kubeconfig);
        let local = Local { folder, tools, state, keep: false };
        // From here on, dropping it takes down whatever was started.
        let mut cluster = Self { kubectl, kubeconfig, local: Some(local) };
        match cluster.start(options).and_then(|()| if options.keep { cluster.disown() } else { Ok(()) }) {
            Ok(()) => Ok(cluster),
            Err(error) => {
                // The first error is the one to tell; what can't be cleared away now is found by the next `up`.
                let _ = cluster.end();
                Err(error)
            }
        }
    }

    /// The cluster that is up on this machine, where there is one. It stays up when this value is dropped.
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

    /// Somebody else's cluster, through the `kubectl` on the path. Its nodes can't be stopped, nor images imported.
    pub fn existing(kubeconfig: &Path) -> Self {
        Self { kubectl: Kubectl::users(kubeconfig), kubeconfig: kubeconfig.to_path_buf(), local: None }
    }

    /// Takes it down and checks that nothing is left but the logs.
    ///
    /// # Errors
    /// If something can't be removed.
    pub fn down(mut self) -> Result<()> {
        self.end()
    }

    /// Access for people and programs.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The machine's address as pods and nodes see it: a test's own servers listen there.
    ///
    /// # Errors
    /// With a cluster that is not ours.
    pub fn host_address(&self) -> Result<Ipv4Addr> {
        self.local("host_address").map(|_| HOST)
    }

    /// The logs of all components, one file each.
    ///
    /// # Errors
    /// With a cluster that is not ours.
    pub fn logs(&self) -> Result<PathBuf> {
        self.local("logs").map(|local| local.folder.join("logs"))
    }

    /// The folder of all its files.
    ///
    /// # Errors
    /// With a cluster that is not ours.
    pub fn state(&self) -> Result<&Path> {
        self.local("state").map(|local| local.folder.as_path())
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(arguments)
    }

    /// Runs kubectl with `--output=json`.
    ///
    /// # Errors
    /// If it fails, with what it said.
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

    /// A kubectl to start, for what runs longer: `port-forward`, `logs --follow`.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubectl.command(arguments)
    }

    /// Helm with this cluster's access: our own, or the one on the path for a cluster that is not ours.
    pub fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.local {
            Some(local) => Command::new(local.tools.kube()),
            None => Command::new("helm"),
        };
        command.args(self.local.is_some().then_some("helm")).args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Puts an OCI archive onto every node. Layers that a node has are not stored again.
    ///
    /// # Errors
    /// If it is no image archive, or with a cluster that is not ours.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        let archive = std::path::absolute(archive).map_err(Error::io("find", archive))?;
        let local = self.local("import_image")?;
        // All nodes at once: half of it is waiting for the disk.
        std::thread::scope(|scope| {
            let import = |machine: Machine<'_>| machine.import(&archive);
            let started: Vec<_> = local.machines().map(|machine| scope.spawn(move || import(machine))).collect();
            let mut ended = started.into_iter().map(|thread| thread.join().unwrap_or_else(|p| resume_unwind(p)));
            ended.try_for_each(|result| result)
        })
    }

    /// How many nodes there are.
    ///
    /// # Errors
    /// With a cluster that is not ours.
    pub fn nodes(&self) -> Result<usize> {
        self.local("nodes").map(|local| local.state.nodes)
    }

    /// A node, to stop and start; numbers begin with 1.
    ///
    /// # Errors
    /// If there is no such node, or with a cluster that is not ours.
    pub fn node(&self, number: usize) -> Result<Node<'_>> {
        let local = self.local("node")?;
        if !(1..=local.state.nodes).contains(&number) {
            return Err(Error::NoNode { asked: number, nodes: local.state.nodes });
        }
        Ok(Node { cluster: self, machine: local.machine(number), number })
    }

    /// A line for each component: its name, and its process where it runs.
    ///
    /// # Errors
    /// With a cluster that is not ours.
    pub fn components(&self) -> Result<Vec<(String, Option<i32>)>> {
        let local = self.local("status")?;
        let plane = Sandbox::new(&local.folder, crate::control_plane::NAME);
        let programs = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"];
        let mut all: Vec<_> = programs.map(|program| (program.to_owned(), plane.find(program))).into();
        for machine in local.machines() {
            let of = |program: &str| (machine.sandbox.component(program), machine.sandbox.find(program));
            all.extend(["containerd", "kubelet", "kube-proxy"].map(of));
            all.extend(local.state.network_policies.then(|| of("network-policies")));
        }
        Ok(all)
    }

    fn local(&self, what: &'static str) -> Result<&Local> {
        self.local.as_ref().ok_or(Error::NotOurs(what))
    }

    fn start(&self, options: &Options) -> Result<()> {
        let local = self.local("up")?;
        let progress = Progress::new(options.quiet);
        machine::make_covered()?;
        pki::make(&local.folder, &local.tools, options.nodes)?;
        network::make_bridge()?;
        let plane = ControlPlane::new(&local.folder, &local.tools);
        plane.begin()?;
        progress.say("etcd and API server started");
        // While the API server comes up.
        for machine in local.machines() {
            machine.boot()?;
            machine.import(&local.tools.pod_image())?;
            progress.say(&format!("{}: network and containerd", machine.sandbox.name()));
        }
        plane.finish(&self.kubectl)?;
        progress.say("API server is ready; controllers, scheduler and DNS started");
        for machine in local.machines() {
            machine.start_kubelet()?;
            machine.start_proxy()?;
        }
        plane.wait_for_controllers(&self.kubectl)?;
        for number in 1..=options.nodes {
            self.furnish(number, READY_WITHIN)?;
            if options.network_policies {
                // Only now, since it reads its node's object when it starts.
                local.machine(number).start_policies()?;
            }
            progress.say(&format!("{} is ready", node_name(number)));
        }
        Ok(())
    }

    /// Makes it stay when this process ends.
    fn disown(&mut self) -> Result<()> {
        let local = self.local.as_mut().ok_or(Error::NotOurs("keep"))?;
        local.state.owner = None;
        local.keep = true;
        local.state.save(&local.folder)
    }

    /// Waits for a node and tells the API server what no kubelet would: its pods' network and its GPUs.
    fn furnish(&self, number: usize, within: Duration) -> Result<()> {
        let local = self.local("node")?;
        let (name, machine) = (node_name(number), local.machine(number));
        let begun = Instant::now();
        while !self.is_ready(&name) {
            if machine.sandbox.find("kubelet").is_none() {
                return Err(machine.sandbox.trouble("kubelet", "ended"));
            }
            if begun.elapsed() > within {
                let problem = format!("did not make its node ready in {} s", within.as_secs());
                return Err(machine.sandbox.trouble("kubelet", &problem));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let network = json!({"spec": {"podCIDR": pods(number)}}).to_string();
        self.kubectl(&["patch", "node", &name, "--type=merge", "--patch", &network])?;
        // kubelet keeps resources that it does not know, but forgets them when it starts anew.
        let gpus = json!({GPU: local.state.gpus_per_node.to_string()});
        let gpus = json!({"status": {"capacity": gpus, "allocatable": gpus}}).to_string();
        self.kubectl(&["patch", "node", &name, "--subresource=status", "--type=merge", "--patch", &gpus]).map(drop)
    }

    fn is_ready(&self, node: &str) -> bool {
        self.json(&["get", "node", node]).is_ok_and(|node| condition(&node, "Ready").as_deref() == Some("True"))
    }

    fn end(&mut self) -> Result<()> {
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

impl Local {
    fn machine(&self, number: usize) -> Machine<'_> {
        Machine::new(&self.folder, &self.tools, number, self.state.nodes)
    }

    fn machines(&self) -> impl Iterator<Item = Machine<'_>> {
        (1..=self.state.nodes).map(|number| self.machine(number))
    }
}

/// The status of a condition of an object: `True`, `False` or `Unknown`.
pub fn condition(object: &Value, kind: &str) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

/// A node of a cluster of ours.
#[derive(Debug)]
pub struct Node<'a> {
    cluster: &'a Cluster,
    machine: Machine<'a>,
    number: usize,
}

impl Node<'_> {
    /// Its name in the API.
    pub fn name(&self) -> &str {
        self.machine.sandbox.name()
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        node(self.number)
    }

    /// Ends kubelet alone, as a crash would. Its containers go on; its node becomes `NotReady` after
    /// [`NODE_GRACE`](crate::NODE_GRACE).
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_kubelet(&self) -> Result<()> {
        self.machine.stop_kubelet()
    }

    /// Ends kubelet, containerd and all containers at once, as a loss of power would. What was on its disk stays.
    ///
    /// # Errors
    /// If something does not end.
    pub fn kill(&self) -> Result<()> {
        self.machine.sandbox.kill()
    }

    /// Starts what does not run of it and waits until it is ready and has its GPUs again. A cut network stays cut only
    /// where the node was not killed.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start(&self) -> Result<()> {
        if self.machine.sandbox.pid().is_none() {
            self.machine.boot()?;
        }
        if self.machine.sandbox.find("kube-proxy").is_none() {
            self.machine.start_proxy()?;
        }
        if self.machine.sandbox.find("kubelet").is_none() {
            self.machine.start_kubelet()?;
        }
        self.cluster.furnish(self.number, READY_WITHIN)?;
        let policies = self.cluster.local("node")?.state.network_policies;
        if policies && self.machine.sandbox.find("network-policies").is_none() {
            self.machine.start_policies()?;
        }
        Ok(())
    }

    /// Drops every packet from and to the node; all in it goes on.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn cut_network(&self) -> Result<()> {
        network::cut(&self.machine.sandbox)
    }

    /// Ends [`cut_network`](Self::cut_network).
    ///
    /// # Errors
    /// If the node does not run.
    pub fn mend_network(&self) -> Result<()> {
        network::mend(&self.machine.sandbox)
    }

    /// Runs a command in the node as root: `ctr`, `iptables-save`, `ip`.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        crate::command::output(&mut self.machine.sandbox.command(words)?)
    }

    /// Waits until the API server sees it as ready, or as not ready.
    ///
    /// # Errors
    /// If it does not in that time.
    pub fn wait_ready(&self, ready: bool, within: Duration) -> Result<Duration> {
        let begun = Instant::now();
        while self.cluster.is_ready(self.name()) != ready {
            if begun.elapsed() > within {
                let what = format!("{} {}", self.name(), if ready { "ready" } else { "not ready" });
                return Err(Error::Late { what, after: within, said: String::new() });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(begun.elapsed())
    }
}

/// Takes down the cluster of a state folder, or what is left of one; fine where there is nothing.
///
/// # Errors
/// If something can't be removed, or is still there after that.
pub fn down(folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    let state = State::load(&folder)?;
    leftovers::remove(&folder, state.as_ref())?;
    // A folder that is not a cluster's is left alone.
    if state.is_some() { state::clear(&folder) } else { Ok(()) }
}

/// Refuses where a cluster is up, and clears away one that is nobody's any more.
fn clear_the_way(folder: &Path) -> Result<()> {
    for sandbox in Sandbox::all() {
        let other = sandbox.state();
        match State::load(other)? {
            Some(state) if !state.abandoned() => return Err(Error::Running { state: other.to_path_buf() }),
            _ => down(other)?,
        }
    }
    match fs::metadata(folder) {
        Ok(_) => {
            let empty =
                fs::read_dir(folder).map_err(Error::io("read", folder))?.flatten().all(|e| e.file_name() == "logs");
            match State::load(folder)? {
                None if !empty => Err(Error::Impossible(format!(
                    "{} has files in it that are not a cluster's: name another folder",
                    folder.display()
                ))),
                _ => down(folder),
            }
        }
        Err(_) => down(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_nodes_are_left_alone() {
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
    fn a_condition_is_found_by_its_kind() {
        let node = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(condition(&node, "Ready").as_deref(), Some("Unknown"));
        assert_eq!(condition(&node, "DiskPressure"), None);
        assert_eq!(condition(&json!({}), "Ready"), None);
    }
}
