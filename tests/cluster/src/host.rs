//! What a cluster needs of the machine, and what it changes there that must be put back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::addresses::{BRIDGE, NODES, PODS, SERVICES};
use crate::command::{on_path, output};
use crate::error::{Error, Result};

/// Programs that are called, and the Debian packages that have them.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("ipset", "ipset"),
    ("conntrack", "conntrack"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
];

/// Folders in which distributions install the network plugins.
const PLUGINS: [&str; 4] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni-plugins"];

/// Settings that kubelet insists on. They hold for the whole machine, so they are put back.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Folders that a node's mounts cover, so that fixed paths in the programs refer to files of the node.
pub const COVERED: [&str; 7] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/run/containerd",
    "/run/netns",
];

/// The reason why this machine or account can't have a cluster, if there is one.
pub fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can make network namespaces and containers".into());
    }
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        return Some(format!("missing packages: {} (cargo xtask cluster up installs them)", missing.join(" ")));
    }
    plugins().is_none().then(|| "missing package: containernetworking-plugins".into())
}

/// The folder of the network plugins.
pub fn plugins() -> Option<&'static Path> {
    PLUGINS.iter().map(Path::new).find(|folder| folder.join("ptp").is_file() && folder.join("host-local").is_file())
}

/// Refuses networks that this machine uses already.
pub fn check_networks() -> Result<()> {
    let routes = output(std::process::Command::new("ip").args(["-4", "route", "show", "table", "all"]))?;
    match taken(&routes) {
        Some(line) => Err(Error::Impossible(format!(
            "this machine has a route of its own into {NODES}, {PODS} or {SERVICES}: {line}"
        ))),
        None => Ok(()),
    }
}

fn taken(routes: &str) -> Option<&str> {
    let ours = ["10.213.", "10.214.", "10.215."];
    let foreign = |line: &&str| ours.iter().any(|net| line.contains(net)) && !line.contains(BRIDGE);
    routes.lines().map(str::trim).find(foreign)
}

/// The settings as they are now.
pub fn sysctls() -> BTreeMap<String, String> {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    SYSCTLS.iter().filter_map(|&name| Some((name.to_owned(), read(name)?.trim().to_owned()))).collect()
}

/// Puts settings back.
pub fn restore_sysctls(saved: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in saved.iter().filter(|(name, value)| sysctls().get(*name) != Some(*value)) {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, value).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Those folders that do not exist yet.
pub fn to_be_made() -> Vec<PathBuf> {
    COVERED.iter().map(PathBuf::from).filter(|path| !path.exists()).collect()
}

/// Makes the covered folders.
pub fn make_covered() -> Result<()> {
    COVERED.iter().map(Path::new).try_for_each(|path| fs::create_dir_all(path).map_err(Error::io("create", path)))
}

/// Removes folders that we made. Another program may have put something there since; that stays.
pub fn remove_made(made: &[PathBuf]) {
    for path in made {
        let _ = fs::remove_dir(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_of_another_interface_is_an_obstacle() {
        let own =
            "10.213.0.0/24 dev simsiam0 proto kernel\nlocal 10.213.0.1 dev simsiam0 table local\ndefault dev eth0\n";
        assert_eq!(taken(own), None);
        assert_eq!(taken("10.214.0.0/16 via 10.1.1.1 dev tun0\n"), Some("10.214.0.0/16 via 10.1.1.1 dev tun0"));
    }

    #[test]
    fn kernel_setting_is_read_unchanged() {
        let panic = fs::read_to_string("/proc/sys/kernel/panic").unwrap();
        assert_eq!(sysctls()["kernel/panic"], panic.trim());
        restore_sysctls(&sysctls()).unwrap();
    }
}
