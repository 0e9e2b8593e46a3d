//! The cache outside `target/`, whose entries are either complete or absent.
//!
//! ```
//! use simsiam_cache::Staging;
//!
//! let root = std::env::temp_dir().join(format!("simsiam-cache-example-{}", std::process::id()));
//! let staging = Staging::begin(&root, "tool-1.0")?;
//! std::fs::write(staging.path().join("tool"), "#!/bin/sh\n").expect("a writable folder");
//! // Until here, nothing is visible under the name `tool-1.0`.
//! let folder = staging.finish()?;
//! assert!(folder.join("tool").is_file());
//! # std::fs::remove_dir_all(&root).expect("a removable folder");
//! # Ok::<(), simsiam_cache::Error>(())
//! ```

mod error;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use error::{Error, IoError, Result};

/// Folder of the MLflow server for the tests. The last number is incremented when its content changes.
pub const MLFLOW: &str = "mlflow-3.17.2-1";

const PARTIAL: &str = ".partial-";

/// Returns `$SIMSIAM_CACHE`, else `$XDG_CACHE_HOME/simsiam`, else `~/.cache/simsiam`.
///
/// # Errors
/// If none of the three variables is set.
pub fn root() -> Result<PathBuf> {
    from_variables(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let root = get("SIMSIAM_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(get("XDG_CACHE_HOME")?).join("simsiam")))
        .or_else(|| Some(PathBuf::from(get("HOME")?).join(".cache/simsiam")))
        .ok_or(Error::NoFolder)?;
    std::path::absolute(&root).map_err(Error::io("find", &root))
}

/// A folder that is being filled. [`Staging::finish`] moves it to its final name; dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    target: PathBuf,
}

impl Staging {
    /// Creates a partial folder for `root/name`, and removes those of killed processes.
    ///
    /// # Errors
    /// If the cache can't be written.
    pub fn begin(root: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        clear_abandoned(root)?;
        let path = root.join(format!("{PARTIAL}{}-{name}", std::process::id()));
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(Self { path, target: root.join(name) })
    }

    /// Returns the folder to write into.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its final name in one step, replacing an existing entry.
    ///
    /// # Errors
    /// If it can't be renamed.
    pub fn finish(self) -> Result<PathBuf> {
        if self.target.exists() {
            // Renamed first, so that no half-removed folder is visible under the final name.
            let old = self.path.with_extension("old");
            fs::rename(&self.target, &old).map_err(Error::io("replace", &self.target))?;
            fs::rename(&self.path, &self.target).map_err(Error::io("finish", &self.target))?;
            fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
        } else {
            fs::rename(&self.path, &self.target).map_err(Error::io("finish", &self.target))?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After `finish` the path does not exist. Otherwise a failure leaves a partial folder, which the next `begin` removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Checks that the disk below `root` has enough free space.
///
/// # Errors
/// If there is less than `bytes` free.
pub fn room(root: &Path, bytes: u64) -> Result<()> {
    let mut existing = root;
    while let (false, Some(parent)) = (existing.exists(), existing.parent()) {
        existing = parent;
    }
    // Without an answer from `df`, the task itself will fail if there is too little space.
    let text = Command::new("df").arg("-Pk").arg(existing).output().map(|df| df.stdout).unwrap_or_default();
    match free_bytes(&String::from_utf8_lossy(&text)) {
        Some(free) if free < bytes => Err(Error::Full { path: existing.to_path_buf(), free, needed: bytes }),
        _ => Ok(()),
    }
}

/// Returns the free space in the output of `df -Pk`.
fn free_bytes(df: &str) -> Option<u64> {
    Some(df.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()? * 1024)
}

/// Removes the partial folders of processes that have ended.
fn clear_abandoned(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).map_err(Error::io("read", root))?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(partial_pid) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            fs::remove_dir_all(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn partial_pid(name: &str) -> Option<u32> {
    name.strip_prefix(PARTIAL)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_specific_cache_variable_wins() {
        let all = [("SIMSIAM_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        let with =
            |from: usize| from_variables(|name| all[from..].iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()));
        assert_eq!(with(0).unwrap(), Path::new("/a"));
        assert_eq!(with(1).unwrap(), Path::new("/b/simsiam"));
        assert_eq!(with(2).unwrap(), Path::new("/c/.cache/simsiam"));
        assert!(with(3).is_err());
    }

    #[test]
    fn staged_folder_is_complete_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::begin(dir.path(), "thing").unwrap();
        fs::write(staging.path().join("file"), "1").unwrap();
        assert!(!dir.path().join("thing").exists());
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        for text in ["1", "2"] {
            let staging = Staging::begin(dir.path(), "thing").unwrap();
            fs::write(staging.path().join("file"), text).unwrap();
            let path = staging.finish().unwrap();
            assert_eq!(fs::read_to_string(path.join("file")).unwrap(), text);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn too_small_disk_is_refused_before_writing() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 263174212 1 2048 1% /\n";
        assert_eq!(free_bytes(df), Some(2 << 20));
        assert_eq!(free_bytes(""), None);
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("not/yet/made");
        room(&inside, 1).unwrap();
        assert!(room(&inside, u64::MAX).unwrap_err().to_string().contains("SIMSIAM_CACHE"));
        assert!(!inside.exists());
    }

    #[test]
    fn partial_folder_of_a_killed_process_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        // Process ids end at 4194304 on Linux.
        let dead = dir.path().join(".partial-4999999-thing");
        let live = dir.path().join(format!(".partial-{}-other", std::process::id()));
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&live).unwrap();
        let staging = Staging::begin(dir.path(), "thing").unwrap();
        assert!(!dead.exists() && live.exists() && staging.path().exists());
    }
}
