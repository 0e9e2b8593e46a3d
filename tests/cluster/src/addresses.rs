//! Who has which address.
//!
//! ```text
//! host 10.213.0.1 ── bridge simsiam0 ─┬─ node-1 10.213.0.11 ── its pods 10.214.1.0/24
//!                                     └─ node-2 10.213.0.12 ── its pods 10.214.2.0/24
//! ```
//!
//! Pods, nodes and host reach one another by routes alone, without address translation, as Kubernetes asks for.
//! Cluster addresses of Services (10.215.0.0/16) exist in the nodes only, where kube-proxy translates them. There is
//! no way to anywhere else: connections to the internet are refused at once.

use std::net::Ipv4Addr;

/// The bridge on the host that joins the nodes.
pub const BRIDGE: &str = "simsiam0";
/// The host on that bridge: the API server, DNS, and whatever a test serves to its pods.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// The nodes' network.
pub const NODES: &str = "10.213.0.0/24";
/// All pods' networks.
pub const PODS: &str = "10.214.0.0/16";
/// The Services' network.
pub const SERVICES: &str = "10.215.0.0/16";
/// The API server as pods see it: the first address of the Services' network.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 215, 0, 1);
/// DNS as pods see it.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 215, 0, 10);
/// Address of the control plane's private ports. Not 127.0.0.1, where other programs may use the same ports.
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 213, 0, 1);
/// The API server's port.
pub const API_PORT: u16 = 6443;
/// The port of DNS on the host: not 53, which a machine's own server may hold on all addresses.
pub const DNS_PORT: u16 = 10053;
/// As many nodes as the networks above have room for.
pub const MOST_NODES: usize = 9;

/// The API server's address for everybody.
pub fn api() -> String {
    format!("https://{HOST}:{API_PORT}")
}

/// Returns a node's name; numbers start at 1.
pub fn node_name(number: usize) -> String {
    format!("node-{number}")
}

/// A node's address.
pub fn node(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, 0, 10 + number as u8)
}

/// Returns the network of a node's pods.
pub fn pods(number: usize) -> String {
    format!("10.214.{number}.0/24")
}

/// Returns the name of the host's end of a node's veth pair.
pub fn cable(number: usize) -> String {
    format!("simsiam-n{number}")
}
