//! The state folder: what `down` must know and cannot find out otherwise.
//!
//! | file | what |
//! |---|---|
//! | `cluster.json` | the options, what to put back, and who owns the cluster |
//! | `kubeconfig` | for people and tests |
//! | `pki/`, `kubeconfigs/` | certificates, and the components' own access |
//! | `logs/` | one file a component; what remains after `down` |
//! | `node-1/` … | a node's disk: containers, images, kubelet's files |

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::processes;

const FILE: &str = "cluster.json";
const LOGS: &str = "logs";

/// What is written to `cluster.json`, before anything on the machine is changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// How many nodes.
    pub nodes: usize,
    /// Number of GPUs that each node advertises.
    pub gpus_per_node: usize,
    /// Whether NetworkPolicies are enforced.
    pub network_policies: bool,
    /// The folder of the cluster's programs.
    pub tools: PathBuf,
    /// Kernel settings before the start.
    pub sysctls: BTreeMap<String, String>,
    /// Folders that were created outside the state folder.
    pub made: Vec<PathBuf>,
    /// The process that owns the cluster, with its start time; `None` for a cluster that stays up.
    pub owner: Option<(i32, u64)>,
}

impl State {
    /// Returns whether the owner has ended without taking the cluster down.
    pub fn abandoned(&self) -> bool {
        self.owner.is_some_and(|(pid, began)| !processes::alive(pid) || processes::start_time(pid) != Some(began))
    }

    /// Writes it into its folder.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::State { path: path.clone(), source })?;
        // Renamed into place: a crash leaves the old or the new one.
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).map_err(Error::io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(Error::io("write", &path))
    }

    /// Reads it from a folder, if it exists.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| Error::State { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("read", &path)(source)),
        }
    }
}

/// Returns this process as an owner.
pub fn this_process() -> Option<(i32, u64)> {
    let pid = i32::try_from(std::process::id()).ok()?;
    Some((pid, processes::start_time(pid)?))
}

/// Creates an empty state folder that only we may read, because it will contain keys.
pub fn make(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let logs = folder.join(LOGS);
    match fs::remove_dir_all(&logs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &logs)(error)),
        _ => {}
    }
    fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(Error::io("create", folder))
}

/// Removes all but the logs.
pub fn clear(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_name() != LOGS && entry.file_name() != FILE) {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    // Last, because it marks the rest as ours.
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(owner: Option<(i32, u64)>) -> State {
        State {
            nodes: 2,
            gpus_per_node: 4,
            network_policies: true,
            tools: "/t".into(),
            sysctls: BTreeMap::new(),
            made: vec![],
            owner,
        }
    }

    #[test]
    fn state_is_cleared_except_for_logs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(State::load(dir.path()).unwrap().is_none());
        make(dir.path()).unwrap();
        state(None).save(dir.path()).unwrap();
        fs::write(dir.path().join("logs/etcd.log"), "x").unwrap();
        fs::create_dir_all(dir.path().join("node-1/x")).unwrap();
        assert_eq!(State::load(dir.path()).unwrap().unwrap().gpus_per_node, 4);
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(dir.path().join("logs/etcd.log").is_file());
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(State::load(dir.path()).unwrap_err().to_string().contains("cluster.json"));
    }

    #[test]
    fn cluster_of_an_ended_process_is_abandoned() {
        let (pid, began) = this_process().unwrap();
        assert!(!state(None).abandoned());
        assert!(!state(Some((pid, began))).abandoned());
        assert!(state(Some((pid, began + 1))).abandoned(), "another process with that number");
        assert!(state(Some((4_999_999, 1))).abandoned());
    }
}
