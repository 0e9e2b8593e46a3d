//! The host's bridge, and each node's veth pair to it.
//!
//! Only the bridge, the host's ends of the cables and routes over them are the host's (and two rules in a packet filter
//! that drops by default); everything else is inside the nodes' network namespaces and is removed with them.

use std::path::Path;
use std::process::Command;

use crate::addresses::{BRIDGE, HOST, MOST_NODES, SERVICES, cable, node, pods};
use crate::command::{output, run_words};
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;

/// Creates the bridge. This fails if it exists, which prevents two clusters from being created at once.
pub fn make_bridge() -> Result<()> {
    // A fixed MAC address: otherwise the bridge takes the lowest one of its ports, which changes when a node dies, and the
    // other nodes would keep the old one in their neighbour caches.
    run_words(&["ip", "link", "add", BRIDGE, "address", "02:0a:d5:00:00:01", "type", "bridge"])?;
    run_words(&["ip", "address", "add", &format!("{HOST}/24"), "dev", BRIDGE])?;
    run_words(&["ip", "link", "set", BRIDGE, "up"])?;
    for (chain, rule) in PASSAGES {
        // Docker and ufw drop unknown packets. If nothing is dropped, the host's packet filter is left alone.
        if filter(chain)?.contains(&format!("-P {chain} DROP")) {
            let words: Vec<_> = ["iptables", "-w", "-I", chain].into_iter().chain(rule.split(' ')).collect();
            run_words(&words)?;
        }
    }
    Ok(())
}

/// Packets that the host's packet filter must accept: between the nodes (if it sees bridged packets), and from
/// them to the host.
const PASSAGES: [(&str, &str); 2] =
    [("FORWARD", "-i simsiam0 -o simsiam0 -j ACCEPT"), ("INPUT", "-i simsiam0 -j ACCEPT")];

fn filter(chain: &str) -> Result<String> {
    output(Command::new("iptables").args(["-w", "-S", chain]))
}

fn close_passages() -> Result<()> {
    for (chain, rule) in PASSAGES {
        // Without iptables there never was a cluster here.
        while filter(chain).is_ok_and(|rules| rules.contains(&format!("-A {chain} {rule}"))) {
            let words: Vec<_> = ["iptables", "-w", "-D", chain].into_iter().chain(rule.split(' ')).collect();
            run_words(&words)?;
        }
    }
    Ok(())
}

/// Connects a node that has just started, and gives it its address and its routes.
pub fn connect(sandbox: &Sandbox, number: usize, nodes: usize, pid: i32) -> Result<()> {
    let name = cable(number);
    remove_link(&name)?;
    run_words(&["ip", "link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &pid.to_string()])?;
    run_words(&["ip", "link", "set", &name, "master", BRIDGE, "up"])?;
    run_words(&["ip", "route", "replace", &pods(number), "via", &node(number).to_string(), "dev", BRIDGE])?;
    let others = (1..=nodes).filter(|&other| other != number);
    let routes: Vec<_> =
        others.map(|other| format!("ip route add {} via {} dev eth0", pods(other), node(other))).collect();
    // The Service network needs a route, or the kernel rejects the packet before kube-proxy translates it.
    sandbox.script(&format!(
        "ip link set lo up\n\
         ip address add {}/24 dev eth0\n\
         ip link set eth0 up\n\
         ip route add {SERVICES} via {HOST} dev eth0\n\
         {}\n\
         echo 1 > /proc/sys/net/ipv4/ip_forward",
        node(number),
        routes.join("\n")
    ))
}

// In the node's own packet filter, since the host's sees bridged packets only by a setting. `mangle`, because
// nothing else of the cluster uses it, and it sees forwarded packets as well as local ones.
const CUT: [&str; 2] = ["PREROUTING -i eth0 -j DROP", "POSTROUTING -o eth0 -j DROP"];

/// Drops every packet to and from a node.
pub fn cut(sandbox: &Sandbox) -> Result<()> {
    restore(sandbox)?;
    let rules: Vec<_> = CUT.iter().map(|rule| format!("iptables -w -t mangle -A {rule}")).collect();
    sandbox.script(&rules.join("\n"))
}

/// Ends a cut; does nothing if there is none.
pub fn restore(sandbox: &Sandbox) -> Result<()> {
    let rules: Vec<_> =
        CUT.iter().map(|rule| format!("while iptables -w -t mangle -D {rule} 2>/dev/null; do :; done")).collect();
    sandbox.script(&rules.join("\n"))
}

/// Removes bridge and cables; the routes go with them.
pub fn remove() -> Result<()> {
    close_passages()?;
    (1..=MOST_NODES).map(cable).chain([BRIDGE.to_owned()]).try_for_each(|name| remove_link(&name))
}

/// Our interfaces that exist.
pub fn existing() -> Vec<String> {
    let names = (1..=MOST_NODES).map(cable).chain([BRIDGE.to_owned()]);
    names.filter(|name| exists(name)).collect()
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn remove_link(name: &str) -> Result<()> {
    if !exists(name) {
        return Ok(());
    }
    match run_words(&["ip", "link", "delete", name]) {
        // The kernel removes a veth pair some time after its node.
        Err(Error::Failed { .. }) if !exists(name) => Ok(()),
        result => result,
    }
}
