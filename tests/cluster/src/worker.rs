//! The components of a node: containerd, kubelet and kube-proxy in a sandbox with its own network.
//!
//! kube-proxy, and not a translation of our own for the two addresses that must work, because it is linked already
//! (one program), sees every Service of a test, and keeps its rules in the node's own network, where they go with it.
//!
//! Pods are connected by the `ptp` plugin rather than by a bridge in the node: every packet is routed, so packet
//! filters (kube-proxy's, and those of NetworkPolicies) see it without a setting for bridges.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::addresses::{DNS_SERVICE, PODS, SERVICES, node, node_name, pods};
use crate::error::{Error, Result};
use crate::host::plugins;
use crate::sandbox::Sandbox;
use crate::tools::{POD_IMAGE, Tools};
use crate::{cgroups, network, pki};

const SOCKET: &str = "/run/containerd/containerd.sock";
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Folders on a node's disk and their mount points. The content of `/run` is lost on a restart, as on a real machine.
const DISK: [(&str, &str); 5] = [
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("cni", "/var/lib/cni"),
    ("pods", "/var/log/pods"),
    ("containers", "/var/log/containers"),
];
const MEMORY: [&str; 2] = ["/run/containerd", "/run/netns"];

/// A node in its sandbox.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Its sandbox.
    pub sandbox: Sandbox,
    number: usize,
    nodes: usize,
    state: &'a Path,
    tools: &'a Tools,
}

impl<'a> Worker<'a> {
    /// A node of a state folder, running or not.
    pub fn new(state: &'a Path, tools: &'a Tools, number: usize, nodes: usize) -> Self {
        Self { sandbox: Sandbox::new(state, &node_name(number)), number, nodes, state, tools }
    }

    /// Starts the sandbox with its network, mounts and containerd.
    pub fn boot(&self) -> Result<()> {
        let disk = self.disk();
        for folder in DISK.map(|(folder, _)| disk.join(folder)) {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        cgroups::make(self.sandbox.name())?;
        let pid = self.sandbox.start(&self.tools.pod(), true)?;
        network::connect(&self.sandbox, self.number, self.nodes, pid)?;
        self.mount()?;
        self.start_containerd()
    }

    /// The rest, which needs certificates but no API server yet.
    pub fn start_kubelet(&self) -> Result<()> {
        if self.sandbox.find("kubelet").is_some() {
            return Ok(());
        }
        let config = self.write("kubelet.json", &self.kubelet_config())?;
        self.spawn(
            "kubelet",
            &[
                format!("--config={}", config.display()),
                format!("--kubeconfig={}", pki::kubeconfig(self.state, self.sandbox.name()).display()),
                format!("--hostname-override={}", self.sandbox.name()),
                format!("--node-ip={}", node(self.number)),
                "--node-labels=simsiam.dev/test=true".to_owned(),
            ],
        )
    }

    /// Translates the Services' addresses in this node.
    pub fn start_proxy(&self) -> Result<()> {
        self.spawn(
            "kube-proxy",
            &[
                format!("--kubeconfig={}", pki::kubeconfig(self.state, "kube-proxy").display()),
                format!("--hostname-override={}", self.sandbox.name()),
                format!("--cluster-cidr={PODS}"),
                "--proxy-mode=iptables".to_owned(),
                // These are settings of the whole machine and are left alone.
                "--conntrack-max-per-core=0".to_owned(),
                "--conntrack-min=0".to_owned(),
                "--conntrack-tcp-timeout-established=0s".to_owned(),
                "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
            ],
        )
    }

    /// Starts the component that enforces NetworkPolicies in the node's packet filter.
    pub fn start_policies(&self) -> Result<()> {
        self.spawn(
            "network-policies",
            &[
                format!("--kubeconfig={}", self.state.join("kubeconfig").display()),
                format!("--node={}", self.sandbox.name()),
                format!("--services={SERVICES}"),
            ],
        )
    }

    /// Kills only kubelet; the containers keep running.
    pub fn stop_kubelet(&self) -> Result<()> {
        match self.sandbox.find("kubelet") {
            Some(pid) if !crate::processes::end(pid, Signal::SIGKILL, STOP_WITHIN) => {
                Err(self.sandbox.trouble("kubelet", "did not end"))
            }
            _ => Ok(()),
        }
    }

    /// Imports an image archive into the node's containerd.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let archive = archive.display().to_string();
        crate::command::run(&mut self.sandbox.command(&["ctr", "-n", "k8s.io", "images", "import", &archive])?)
    }

    fn disk(&self) -> PathBuf {
        self.state.join(self.sandbox.name())
    }

    fn mount(&self) -> Result<()> {
        let disk = self.disk();
        let mut lines: Vec<_> =
            DISK.iter().map(|(from, to)| format!("mount --bind '{}' {to}", disk.join(from).display())).collect();
        lines.extend(MEMORY.iter().map(|folder| format!("mount -t tmpfs tmpfs {folder}")));
        // Volumes of containers may ask for mounts that they share with the node.
        lines.push("mount --make-rshared /".to_owned());
        self.sandbox.script(&lines.join("\n"))
    }

    fn start_containerd(&self) -> Result<()> {
        let plugins = plugins().ok_or_else(|| Error::Impossible("no network plugins".into()))?;
        let networks = self.disk().join("net.d");
        fs::create_dir_all(&networks).map_err(Error::io("create", &networks))?;
        self.write("net.d/10-pods.conflist", &self.pod_network())?;
        let config = self.write("containerd.toml", &containerd_config(plugins, &networks))?;
        let words = ["containerd".to_owned(), "--config".to_owned(), config.display().to_string()];
        self.sandbox.spawn("containerd", &words, &[])?;
        let begun = Instant::now();
        while self.sandbox.script(&format!("ctr --address {SOCKET} version >/dev/null")).is_err() {
            if self.sandbox.find("containerd").is_none() {
                return Err(self.sandbox.trouble("containerd", "ended"));
            }
            if begun.elapsed() > STOP_WITHIN {
                return Err(self.sandbox.trouble("containerd", "does not answer"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn pod_network(&self) -> String {
        let ipam = json!({
            "type": "host-local",
            "ranges": [[{"subnet": pods(self.number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        });
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": ipam}]})
            .to_string()
    }

    fn kubelet_config(&self) -> String {
        let file = |name: String| self.state.join("pki").join(name).display().to_string();
        let never = json!({
            "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        });
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node(self.number).to_string(),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": file("ca.crt".into())},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": file(format!("{}.crt", self.sandbox.name())),
            "tlsPrivateKeyFile": file(format!("{}.key", self.sandbox.name())),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}/{}", cgroups::NAME, self.sandbox.name()),
            "failCgroupV1": false,
            "clusterDomain": "cluster.local",
            "clusterDNS": [DNS_SERVICE.to_string()],
            "resolvConf": "",
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "failSwapOn": false,
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            // A quarter of it is the time between two renewals.
            "nodeLeaseDurationSeconds": 8,
            "nodeStatusUpdateFrequency": "2s",
            // A developer's disk may be nearly full, and an image that was removed can't be had again.
            "evictionHard": never,
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "imageMinimumGCAge": "24h",
        })
        .to_string()
    }

    fn spawn(&self, program: &str, flags: &[String]) -> Result<()> {
        let words = [self.tools.kube().display().to_string(), program.to_owned()];
        self.sandbox.spawn(program, &[words.as_slice(), flags].concat(), &[])
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.disk().join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        Ok(path)
    }
}

fn containerd_config(plugins: &Path, networks: &Path) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{POD_IMAGE}"
# For machines that deny CAP_SYS_RESOURCE even to root.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{}"
conf_dir = "{}"
"#,
        plugins.display(),
        networks.display()
    )
}
