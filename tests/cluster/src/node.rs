//! A node for tests: it can be stopped, killed, disconnected and started again.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::addresses::node;
use crate::error::{Error, Result};
use crate::handle::{Cluster, READY_WITHIN};
use crate::network;
use crate::worker::Worker;

/// A node of a cluster that this crate started.
#[derive(Debug)]
pub struct Node<'a> {
    cluster: &'a Cluster,
    worker: Worker<'a>,
    number: usize,
}

impl<'a> Node<'a> {
    pub(crate) fn new(cluster: &'a Cluster, worker: Worker<'a>, number: usize) -> Self {
        Self { cluster, worker, number }
    }

    /// The node's name in the API.
    pub fn name(&self) -> &str {
        self.worker.sandbox.name()
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        node(self.number)
    }

    /// Ends only kubelet, as a crash would. Its containers keep running; the node becomes `NotReady` after
    /// [`NODE_GRACE`](crate::NODE_GRACE).
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_kubelet(&self) -> Result<()> {
        self.worker.stop_kubelet()
    }

    /// Ends kubelet, containerd and all containers at once, as a loss of power would. What was on its disk stays.
    ///
    /// # Errors
    /// If something does not end.
    pub fn kill(&self) -> Result<()> {
        self.worker.sandbox.kill()
    }

    /// Starts its stopped components and waits until it is ready and has its GPUs again. A cut network stays cut unless the
    /// node was killed.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start(&self) -> Result<()> {
        if self.worker.sandbox.pid().is_none() {
            self.worker.boot()?;
        }
        if self.worker.sandbox.find("kube-proxy").is_none() {
            self.worker.start_proxy()?;
        }
        if self.worker.sandbox.find("kubelet").is_none() {
            self.worker.start_kubelet()?;
        }
        self.cluster.furnish(self.number, READY_WITHIN)?;
        let policies = self.cluster.local("node")?.state.network_policies;
        if policies && self.worker.sandbox.find("network-policies").is_none() {
            self.worker.start_policies()?;
        }
        Ok(())
    }

    /// Drops every packet from and to the node; its processes keep running.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn cut_network(&self) -> Result<()> {
        network::cut(&self.worker.sandbox)
    }

    /// Ends [`cut_network`](Self::cut_network).
    ///
    /// # Errors
    /// If the node does not run.
    pub fn restore_network(&self) -> Result<()> {
        network::restore(&self.worker.sandbox)
    }

    /// Runs a command in the node as root: `ctr`, `iptables-save`, `ip`.
    ///
    /// # Errors
    /// If it fails; the error contains its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        crate::command::output(&mut self.worker.sandbox.command(words)?)
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
