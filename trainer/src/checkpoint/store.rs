//! Finding, reading, writing and retiring checkpoint directories.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use simsiam_recipe::CheckpointPolicy;

use super::snapshot::Snapshot;
use super::state::State;
use crate::error::Error;
use crate::storage::Storage;

const FOLDER: &str = "checkpoints";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    step: u64,
    epoch: u64,
    attempt: u32,
    files: BTreeMap<String, FileDigest>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileDigest {
    size: u64,
    sha256: String,
}

impl FileDigest {
    fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// Returns the SHA-256 of `bytes` in hexadecimal.
///
/// ```
/// let digest = simsiam::checkpoint::store::sha256(b"abc");
/// assert!(digest.starts_with("ba7816bf") && digest.len() == 64);
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    simsiam_recipe::hex(&Sha256::digest(bytes))
}

/// The name of a checkpoint's directory.
///
/// ```
/// use simsiam::checkpoint::store::Name;
///
/// let name = Name { step: 12_345, attempt: 2 };
/// assert_eq!(name.to_string(), "step-000012345-a2");
/// assert_eq!(Name::parse("step-000012345-a2"), Some(name));
/// assert_eq!(Name::parse("tmp"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Finished optimiser steps.
    pub step: u64,
    /// The attempt that wrote it; on equal steps the higher one wins.
    pub attempt: u32,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "step-{:09}-a{}", self.step, self.attempt)
    }
}

impl Name {
    /// Parses the name of a directory; `None` if it is not a checkpoint's.
    pub fn parse(name: &str) -> Option<Self> {
        let (step, attempt) = name.strip_prefix("step-")?.split_once("-a")?;
        Some(Self { step: step.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}

/// A valid checkpoint, read completely and verified.
pub struct Found {
    /// Its address.
    pub uri: String,
    /// `state.json`.
    pub state: State,
    /// `model.safetensors`.
    pub model: Vec<u8>,
    /// `optimizer.safetensors`.
    pub optimizer: Vec<u8>,
}

/// What a checkpoint's directory turned out to be.
pub enum Verification {
    /// Complete, every digest matching.
    Valid(Box<Found>),
    /// Not a checkpoint, for this reason.
    Invalid(String),
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    storage: Storage,
    folder: String,
}

impl Checkpoints {
    /// The checkpoints of the run whose output is `storage`.
    pub fn new(storage: Storage) -> Self {
        Self::in_folder(storage, FOLDER)
    }

    /// The checkpoints of another stage, in a folder of their own.
    pub fn in_folder(storage: Storage, folder: impl Into<String>) -> Self {
        Self { storage, folder: folder.into() }
    }

    /// Returns the storage they are in.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Returns the path of a checkpoint's file within the output.
    fn path(&self, name: Name, file: &str) -> String {
        format!("{}/{name}/{file}", self.folder)
    }

    /// Returns the address of a checkpoint.
    pub fn uri(&self, name: Name) -> String {
        self.storage.uri(&format!("{}/{name}", self.folder))
    }

    /// Lists the names of all directories, valid or not, oldest first.
    pub fn names(&self) -> Result<Vec<Name>, Error> {
        let mut names: Vec<_> = self.storage.folders(&self.folder)?.iter().filter_map(|n| Name::parse(n)).collect();
        names.sort();
        Ok(names)
    }

    /// Returns the number for a new attempt where the caller does not count them: one more than any before.
    pub fn next_attempt(&self) -> Result<u32, Error> {
        Ok(self.names()?.iter().map(|n| n.attempt).max().unwrap_or(0) + 1)
    }

    /// Reads the latest valid checkpoint. An invalid one is skipped with a warning and never deleted.
    ///
    /// For one rank alone; several ranks use [`restore_latest`](super::restore_latest).
    pub fn latest(&self) -> Result<Option<Found>, Error> {
        for &name in self.names()?.iter().rev() {
            match self.read(name)? {
                Verification::Valid(found) => return Ok(Some(*found)),
                Verification::Invalid(why) => tracing::warn!("skipping checkpoint {}: {why}", self.uri(name)),
            }
        }
        Ok(None)
    }

    /// Reads the latest valid checkpoint, which must exist; `purpose` completes "there is no valid checkpoint to …".
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none.
    pub fn require_latest(&self, purpose: &str) -> Result<Found, Error> {
        self.latest()?.ok_or_else(|| self.missing(purpose))
    }

    /// The error of a stage that needs a checkpoint and finds none.
    pub(super) fn missing(&self, purpose: &str) -> Error {
        Error::Checkpoint {
            uri: self.storage.uri(&self.folder),
            message: format!("there is no valid checkpoint to {purpose}; run the pretrain stage first"),
        }
    }

    /// Reads and verifies one.
    fn read(&self, name: Name) -> Result<Verification, Error> {
        read_directory(&self.storage, &format!("{}/{name}", self.folder))
    }

    /// Writes a snapshot and returns the directory's name and the number of bytes written.
    ///
    /// This function owns the invariant that **the manifest is written last**: a directory with a manifest is complete,
    /// so a process that is killed at any point leaves either a valid checkpoint or one that [`latest`](Self::latest)
    /// skips. [`delete_folder`](Storage::delete_folder) removes the manifest first for the same reason.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(Name, u64), Error> {
        let state = &snapshot.state;
        let name = Name { step: state.step, attempt: state.attempt };
        let contents = [
            (MODEL, snapshot.model_file()?),
            (OPTIMIZER, snapshot.optimizer_file()?),
            (STATE, self.json(name, state)?),
        ];
        let files = contents.iter().map(|(file, bytes)| ((*file).to_owned(), FileDigest::of(bytes))).collect();
        let size = contents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let manifest = Manifest { version: 1, step: state.step, epoch: state.epoch, attempt: state.attempt, files };
        for (file, bytes) in contents {
            self.storage.put(&self.path(name, file), bytes)?;
        }
        self.storage.put(&self.path(name, MANIFEST), self.json(name, &manifest)?)?;
        Ok((name, size))
    }

    fn json(&self, name: Name, document: &impl Serialize) -> Result<Vec<u8>, Error> {
        serde_json::to_vec_pretty(document)
            .map_err(|e| Error::Checkpoint { uri: self.uri(name), message: e.to_string() })
    }

    /// Deletes the complete checkpoints of this and earlier attempts that the policy does not keep.
    ///
    /// This function, with `retired`, owns the invariant that **retention never deletes the newest complete checkpoint**,
    /// nor one of a newer attempt, nor a directory without a manifest, which another process may still be writing.
    pub fn retire(&self, policy: &CheckpointPolicy, attempt: u32, steps_per_epoch: u64) -> Result<(), Error> {
        // A directory without a manifest is not a checkpoint: it neither counts nor is it deleted.
        let mut valid = Vec::new();
        for name in self.names()? {
            if self.storage.get(&self.path(name, MANIFEST))?.is_some() {
                valid.push(name);
            }
        }
        for name in retired(&valid, policy, attempt, steps_per_epoch) {
            self.storage.delete_folder(&format!("{}/{name}", self.folder), MANIFEST)?;
        }
        Ok(())
    }
}

/// Reads and verifies the checkpoint in a folder of `storage`.
///
/// # Errors
/// Those of the storage; a directory that is not a valid checkpoint is [`Verification::Invalid`].
pub fn read_directory(storage: &Storage, folder: &str) -> Result<Verification, Error> {
    use Verification::{Invalid, Valid};
    let Some(manifest) = storage.get(&format!("{folder}/{MANIFEST}"))? else {
        return Ok(Invalid("it has no manifest, so it was never completed".into()));
    };
    let manifest: Manifest = match serde_json::from_slice(&manifest) {
        Ok(manifest) => manifest,
        Err(e) => return Ok(Invalid(format!("its manifest cannot be read: {e}"))),
    };
    let mut files = BTreeMap::new();
    for file in [MODEL, OPTIMIZER, STATE] {
        let Some(expected) = manifest.files.get(file) else {
            return Ok(Invalid(format!("its manifest does not list {file}")));
        };
        let Some(bytes) = storage.get(&format!("{folder}/{file}"))? else {
            return Ok(Invalid(format!("{file} is missing")));
        };
        let found = FileDigest::of(&bytes);
        if found != *expected {
            return Ok(Invalid(format!(
                "{file} has {} bytes and SHA-256 {}, expected {} and {}",
                found.size, found.sha256, expected.size, expected.sha256
            )));
        }
        files.insert(file, bytes);
    }
    let mut take = |file| files.remove(file).unwrap_or_default();
    Ok(match serde_json::from_slice(&take(STATE)) {
        Ok(state) => {
            let (uri, model, optimizer) = (storage.uri(folder), take(MODEL), take(OPTIMIZER));
            Valid(Box::new(Found { uri, state, model, optimizer }))
        }
        Err(e) => Invalid(format!("{STATE} cannot be read: {e}")),
    })
}

/// Returns which of `names` (sorted) the policy does not keep: all but the last `keepLast` and those at every
/// `keepEveryEpochs`th epoch's end, and never those of newer attempts.
fn retired(names: &[Name], policy: &CheckpointPolicy, attempt: u32, steps_per_epoch: u64) -> Vec<Name> {
    let ours: Vec<_> = names.iter().copied().filter(|n| n.attempt <= attempt).collect();
    let candidates = ours.len().saturating_sub(policy.keep_last.max(1) as usize);
    let period = u64::from(policy.keep_every_epochs) * steps_per_epoch;
    ours[..candidates].iter().copied().filter(|n| period == 0 || n.step % period != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(step: u64, attempt: u32) -> Name {
        Name { step, attempt }
    }

    #[test]
    fn checkpoint_names_sort_by_step_then_attempt() {
        assert_eq!(name(12345, 2).to_string(), "step-000012345-a2");
        assert_eq!(Name::parse("step-000012345-a2"), Some(name(12345, 2)));
        assert_eq!(Name::parse("step-x-a2"), None);
        assert!(name(10, 1) < name(10, 2) && name(10, 9) < name(11, 1));
    }

    #[test]
    fn retention_keeps_the_last_the_nth_epochs_and_newer_attempts() {
        let policy = CheckpointPolicy { keep_last: 2, keep_every_epochs: 2, ..CheckpointPolicy::default() };
        let names = [name(10, 1), name(20, 1), name(30, 2), name(40, 3), name(50, 2), name(60, 2)];
        // 20 is the end of epoch 2, 40 belongs to a newer attempt, 50 and 60 are the last two.
        assert_eq!(retired(&names, &policy, 2, 10), [name(10, 1), name(30, 2)]);
        let all = CheckpointPolicy { keep_last: 1, keep_every_epochs: 0, ..CheckpointPolicy::default() };
        assert_eq!(retired(&names[..2], &all, 1, 10), [name(10, 1)]);
        assert!(retired(&names[..1], &all, 1, 10).is_empty());
    }
}
