//! Bringing a cluster up, and taking it down.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::addresses::{MOST_NODES, node_name, pods};
use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};
use crate::handle::{Cluster, GPU, Local, READY_WITHIN};
use crate::kubectl::Kubectl;
use crate::options::{Options, default_state};
use crate::progress::Progress;
use crate::sandbox::Sandbox;
use crate::state::{self, State};
use crate::tools::Tools;
use crate::{host, leftovers, network, pki};

impl Cluster {
    /// Brings a cluster up: about half a minute once its programs are built.
    ///
    /// # Errors
    /// If this machine can't have one, one is up already, or a component does not come up; the error has the end of
    /// that component's log, and everything that was started has been removed.
    pub fn up(options: &Options) -> Result<Self> {
        if let Some(obstacle) = host::obstacle() {
            return Err(Error::Impossible(obstacle));
        }
        if options.nodes > MOST_NODES {
            return Err(Error::Impossible(format!(
                "{} nodes requested, at most {MOST_NODES} are possible",
                options.nodes
            )));
        }
        let tools = Tools::ensure()?;
        let folder = options.state.clone().map_or_else(default_state, Ok)?;
        let folder = std::path::absolute(&folder).map_err(Error::io("find", &folder))?;
        clear_the_way(&folder)?;
        host::check_networks()?;

        state::make(&folder)?;
        let state = State {
            nodes: options.nodes,
            gpus_per_node: options.gpus_per_node,
            network_policies: options.network_policies,
            tools: tools.folder().to_path_buf(),
            sysctls: host::sysctls(),
            made: host::to_be_made(),
            // Until it is up, even a cluster that stays has an owner, so that it counts as abandoned if this process is killed.
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
                // The first error is returned; the next `up` removes what can't be removed now.
                let _ = cluster.end();
                Err(error)
            }
        }
    }

    fn start(&self, options: &Options) -> Result<()> {
        let local = self.local("up")?;
        let progress = Progress::new(options.quiet);
        host::make_covered()?;
        pki::make(&local.folder, &local.tools, options.nodes)?;
        network::make_bridge()?;
        let plane = ControlPlane::new(&local.folder, &local.tools);
        plane.begin()?;
        progress.say("etcd and API server started");
        // While the API server comes up.
        for worker in local.workers() {
            worker.boot()?;
            worker.import(&local.tools.pod_image())?;
            progress.say(&format!("{}: network and containerd", worker.sandbox.name()));
        }
        plane.wait_for_api(&self.kubectl)?;
        if options.nodes == 0 {
            progress.say("API server is ready, and nothing else is to be");
            return Ok(());
        }
        plane.finish(&self.kubectl)?;
        progress.say("API server is ready; controllers, scheduler and DNS started");
        for worker in local.workers() {
            worker.start_kubelet()?;
            worker.start_proxy()?;
        }
        plane.wait_for_controllers(&self.kubectl)?;
        for number in 1..=options.nodes {
            self.furnish(number, READY_WITHIN)?;
            if options.network_policies {
                // Only now, since it reads its node's object when it starts.
                local.worker(number).start_policies()?;
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

    /// Waits for a node, then sets in its API object what kubelet does not: its pod network and its GPUs.
    pub(crate) fn furnish(&self, number: usize, within: Duration) -> Result<()> {
        let local = self.local("node")?;
        let (name, worker) = (node_name(number), local.worker(number));
        let begun = Instant::now();
        while !self.is_ready(&name) {
            if worker.sandbox.find("kubelet").is_none() {
                return Err(worker.sandbox.trouble("kubelet", "ended"));
            }
            if begun.elapsed() > within {
                let problem = format!("did not make its node ready in {} s", within.as_secs());
                return Err(worker.sandbox.trouble("kubelet", &problem));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let network = json!({"spec": {"podCIDR": pods(number)}}).to_string();
        self.kubectl(&["patch", "node", &name, "--type=merge", "--patch", &network])?;
        // kubelet keeps resources that it does not know, unless it finds its own disk empty.
        let gpus = json!({GPU: local.state.gpus_per_node.to_string()});
        let gpus = json!({"status": {"capacity": gpus, "allocatable": gpus}}).to_string();
        self.kubectl(&["patch", "node", &name, "--subresource=status", "--type=merge", "--patch", &gpus]).map(drop)
    }
}

/// Takes down the cluster of a state folder, or its leftovers; does nothing if there are none.
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

/// Fails if a cluster is up, and removes an abandoned one.
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
