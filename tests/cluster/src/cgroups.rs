//! The control groups of the nodes' containers: one folder in each hierarchy that is mounted, so that taking the
//! cluster down can remove it whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The folder of all clusters' groups, below every hierarchy's root.
pub const NAME: &str = "simsiam-cluster";

/// Creates a node's group in every hierarchy and returns its path as kubelet expects it.
pub fn make(node: &str) -> Result<String> {
    for root in hierarchies() {
        let mut path = root;
        for part in [NAME, node] {
            let parent = path.clone();
            path.push(part);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
            // In the first version of cpusets a new group has no processors, and no process may enter it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(&parent.join(file), &path.join(file));
            }
            delegate(&parent);
        }
    }
    Ok(format!("/{NAME}/{node}"))
}

fn inherit(from: &Path, to: &Path) {
    if let (Ok(value), Ok(own)) = (fs::read_to_string(from), fs::read_to_string(to))
        && own.trim().is_empty()
        && !value.trim().is_empty()
    {
        // Refused by the second version where it is not needed.
        let _ = fs::write(to, value.trim());
    }
}

/// In the second version a group's controllers must be passed on by its parent.
fn delegate(parent: &Path) {
    let Ok(controllers) = fs::read_to_string(parent.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Returns our existing groups.
pub fn existing() -> Vec<PathBuf> {
    hierarchies().into_iter().map(|root| root.join(NAME)).filter(|path| path.is_dir()).collect()
}

/// Removes all our groups. Their processes must have ended; the kernel notices that after a moment.
pub fn remove(within: Duration) -> Result<()> {
    let end = Instant::now() + within;
    for path in existing() {
        while let Err(source) = remove_tree(&path) {
            if Instant::now() > end {
                return Err(Error::io("remove", &path)(source));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// A group's files can't be removed, its folders can, from the innermost out.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn hierarchies() -> Vec<PathBuf> {
    parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse(mountinfo: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let kind = after.split(' ').next()?;
            (kind == "cgroup" || kind == "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from))?
        })
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_hierarchies_of_both_versions_are_found() {
        let text = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                    33 31 0:38 / /sys/fs/cgroup/unified rw shared:2 - cgroup2 cgroup2 rw\n";
        assert_eq!(parse(text), ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from));
    }
}
