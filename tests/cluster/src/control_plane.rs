//! The control plane: etcd, API server, controllers, scheduler and DNS as processes on the host.
//!
//! Failure is detected far sooner than by Kubernetes' defaults, so that tests of it are short:
//!
//! | what | here | default |
//! |---|---|---|
//! | a node that is silent becomes `NotReady` after (`--node-monitor-grace-period`) | 10 s | 50 s |
//! | interval of that check (`--node-monitor-period`) | 1 s | 5 s |
//! | a node renews its lease every | 2 s | 10 s |
//! | a pod tolerates a lost node for | its own toleration, else 300 s | same |

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::addresses::{API_PORT, DNS_PORT, DNS_SERVICE, HOST, PRIVATE, SERVICES};
use crate::error::{Error, Result};
use crate::kubectl::Kubectl;
use crate::sandbox::Sandbox;
use crate::tools::Tools;

/// A node that is silent for this long is `NotReady`.
pub const NODE_GRACE: Duration = Duration::from_secs(10);
/// Name of the sandbox.
pub const NAME: &str = "control-plane";
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A control plane in its sandbox.
#[derive(Debug)]
pub struct ControlPlane<'a> {
    /// Its sandbox.
    pub sandbox: Sandbox,
    state: &'a Path,
    tools: &'a Tools,
}

impl<'a> ControlPlane<'a> {
    /// The control plane of a state folder, running or not.
    pub fn new(state: &'a Path, tools: &'a Tools) -> Self {
        Self { sandbox: Sandbox::new(state, NAME), state, tools }
    }

    /// Starts etcd and the API server, without waiting for either.
    pub fn begin(&self) -> Result<()> {
        self.sandbox.start(&self.tools.pod(), false)?;
        self.spawn("etcd", self.etcd())?;
        self.spawn("kube-apiserver", self.api_server())
    }

    /// Waits for the API server.
    pub fn wait_for_api(&self, kubectl: &Kubectl) -> Result<()> {
        self.wait("etcd", "kube-apiserver", || kubectl.run(&["get", "--raw=/readyz"]).map(drop))
    }

    /// Starts what can't start without the API server.
    pub fn finish(&self, kubectl: &Kubectl) -> Result<()> {
        self.spawn("kube-controller-manager", self.controllers())?;
        self.spawn("kube-scheduler", self.scheduler())?;
        let corefile = self.state.join("Corefile");
        std::fs::write(&corefile, self.corefile()).map_err(Error::io("write", &corefile))?;
        self.spawn("coredns", vec![format!("-conf={}", corefile.display())])?;
        kubectl.apply(&dns_service()).map(drop)
    }

    /// Waits for what only the controllers make, without which no pod can be created.
    pub fn wait_for_controllers(&self, kubectl: &Kubectl) -> Result<()> {
        let account = ["get", "serviceaccount", "default", "--namespace=default", "--output=name"];
        self.wait("kube-scheduler", "kube-controller-manager", || kubectl.run(&account).map(drop))
    }

    fn wait(&self, also: &str, component: &str, done: impl Fn() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let Err(error) = done() else { return Ok(()) };
            if let Some(ended) = [also, component].into_iter().find(|name| self.sandbox.find(name).is_none()) {
                return Err(self.sandbox.trouble(ended, "ended"));
            }
            if begun.elapsed() > READY_WITHIN {
                let problem = format!("is not ready after {} s ({error})", READY_WITHIN.as_secs());
                return Err(self.sandbox.trouble(component, &problem));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn spawn(&self, program: &str, flags: Vec<String>) -> Result<()> {
        let words = [self.tools.kube().display().to_string(), program.to_owned()].into_iter().chain(flags);
        self.sandbox.spawn(program, &words.collect::<Vec<_>>(), &[])
    }

    fn pki(&self, file: &str) -> String {
        self.state.join("pki").join(file).display().to_string()
    }

    fn admin(&self) -> String {
        self.state.join("kubeconfig").display().to_string()
    }

    fn etcd(&self) -> Vec<String> {
        let (clients, peers) = (format!("http://{PRIVATE}:2379"), format!("http://{PRIVATE}:2380"));
        vec![
            format!("--data-dir={}", self.state.join("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // A test cluster may lose its data in a power failure.
            "--unsafe-no-fsync".to_owned(),
            // Ten thousand runs with their pods pass the default of 2 GB.
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://{PRIVATE}:2379"),
            format!("--bind-address={HOST}"),
            format!("--advertise-address={HOST}"),
            format!("--secure-port={API_PORT}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!("--client-ca-file={}", self.pki("ca.crt")),
            format!("--tls-cert-file={}", self.pki("kube-apiserver.crt")),
            format!("--tls-private-key-file={}", self.pki("kube-apiserver.key")),
            format!("--kubelet-certificate-authority={}", self.pki("ca.crt")),
            format!("--kubelet-client-certificate={}", self.pki("kube-apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", self.pki("kube-apiserver-kubelet.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", self.pki("service-account.pub")),
            format!("--service-account-signing-key-file={}", self.pki("service-account.key")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    fn controllers(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.admin()),
            format!("--bind-address={PRIVATE}"),
            format!("--root-ca-file={}", self.pki("ca.crt")),
            format!("--service-account-private-key-file={}", self.pki("service-account.key")),
            format!("--cluster-signing-cert-file={}", self.pki("ca.crt")),
            format!("--cluster-signing-key-file={}", self.pki("ca.key")),
            format!("--node-monitor-grace-period={}s", NODE_GRACE.as_secs()),
            "--node-monitor-period=1s".to_owned(),
            "--leader-elect=false".to_owned(),
            // The default 20 a second would be what tests of many objects wait for.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.admin()),
            format!("--bind-address={PRIVATE}"),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    /// As kubeadm's, but every name outside the cluster does not exist: there is nothing to forward to.
    fn corefile(&self) -> String {
        // Two blocks, because within one block the plugin for all other names would be consulted first.
        format!(
            "cluster.local:{DNS_PORT} in-addr.arpa:{DNS_PORT} ip6.arpa:{DNS_PORT} {{\n    \
                 bind {HOST}\n    \
                 errors\n    \
                 kubernetes cluster.local in-addr.arpa ip6.arpa {{\n        \
                     kubeconfig {}\n        \
                     pods insecure\n        \
                     ttl 30\n    \
                 }}\n\
             }}\n\
             .:{DNS_PORT} {{\n    \
                 bind {HOST}\n    \
                 errors\n    \
                 template ANY ANY {{\n        \
                     rcode NXDOMAIN\n    \
                 }}\n\
             }}\n",
            self.admin()
        )
    }
}

/// `kube-dns`, as a Service without pods: its endpoint is the process on the host.
fn dns_service() -> String {
    let metadata = |name: &str| json!({"name": name, "namespace": "kube-system"});
    let protocols = [("dns", "UDP"), ("dns-tcp", "TCP")];
    let ports = protocols
        .map(|(name, protocol)| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": DNS_PORT}));
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata("kube-dns"),
        "spec": {"clusterIP": DNS_SERVICE.to_string(), "ports": ports},
    });
    let mut slice_metadata = metadata("kube-dns-host");
    slice_metadata["labels"] = json!({"kubernetes.io/service-name": "kube-dns"});
    let ports = protocols.map(|(name, protocol)| json!({"name": name, "protocol": protocol, "port": DNS_PORT}));
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice_metadata,
        "addressType": "IPv4", "ports": ports,
        "endpoints": [{"addresses": [HOST.to_string()], "conditions": {"ready": true}}],
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [service, slice]}).to_string()
}
