//! What a cluster could leave on a machine, to be compared before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// All of it, as lines.
pub fn traces() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |kind: &str, lines: Vec<String>| all.extend(lines.into_iter().map(|line| format!("{kind}: {line}")));
    add("process", processes());
    add("network namespace", names(Path::new("/run/netns")));
    add("interface", names(Path::new("/sys/class/net")));
    add("route", output("ip", &["-4", "route", "show", "table", "all"]));
    add("mount", mounts());
    add(
        "packet filter",
        output("iptables-save", &[]).into_iter().filter(|line| !line.starts_with('#')).map(uncounted).collect(),
    );
    add("ip set", output("ipset", &["list", "-name"]));
    add("control group", groups());
    for setting in [
        "net/ipv4/ip_forward",
        "vm/overcommit_memory",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
    ] {
        add(setting, fs::read_to_string(Path::new("/proc/sys").join(setting)).into_iter().collect());
    }
    for folder in [
        "/var/lib",
        "/var/log",
        "/run",
        "/opt",
        "/etc/cni",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/run/containerd",
        "/run/containerd/s",
    ] {
        add(folder, names(Path::new(folder)));
    }
    all
}

/// What came and did not go.
pub fn new_since(before: &BTreeSet<String>) -> Vec<String> {
    traces().difference(before).cloned().collect()
}

/// Only programs of a cluster: on a machine in use others come and go. One that has ended and waits to be reaped by the
/// machine's first process is that one's affair; some containers' are slow at it.
fn processes() -> Vec<String> {
    const OURS: [&str; 8] = ["containerd", "containerd-shim", "runc", "kube", "pod", "etcd", "nsenter", "unshare"];
    let pids = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    let stats = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats
        .filter(|stat| {
            let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).unwrap();
            let orphan = rest.starts_with(" Z 1 ");
            !orphan && OURS.iter().any(|own| name == *own || name.starts_with("containerd-shim"))
        })
        .map(|stat| stat.split_once(')').unwrap().0.to_owned())
        .collect()
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

/// Two levels of every hierarchy: enough to see our groups, and few enough not to change meanwhile.
fn groups() -> Vec<String> {
    let mut all = vec![];
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        let folders = fs::read_dir(hierarchy.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
        all.extend(folders.map(|folder| folder.path().display().to_string()));
    }
    all
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn uncounted(line: String) -> String {
    line.split('[').next().unwrap_or_default().to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
